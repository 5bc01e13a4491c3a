"""What a projection is, and what it gives."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, TypeVar

from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._model.generation import Generation

__all__ = (
    "CONSISTENT",
    "Change",
    "Consistent",
    "Freshness",
    "MaybeStale",
    "Projection",
    "name_of",
    "resolve",
)

S = TypeVar("S")
Lane = Literal["typed", "raw"]


class Change(NamedTuple, Generic[S]):
    """A state and how new it is."""

    generation: int
    """Events of the entity that were visible when it was read; the state is never older.

    Of a store it is a `Generation`, which also knows of compactions."""
    state: S | None
    """``None`` when no relevant event was folded."""

    @property
    def token(self) -> str:
        """The generation as a text for another process, which `Generation.from_token` reads."""
        return Generation(self.generation).token


class Projection(Generic[S]):
    """Folds the events of one entity into a state; subclass it, and give the class or an instance.

    ``apply`` may change the state that it gets and return it: the store keeps and hands out copies.
    It must depend on nothing but its arguments.

    Examples:
        >>> class Balance(Projection[int]):
        ...     relevant_kinds = (EventKind.custom(0xF, 1),)
        ...
        ...     def initial(self) -> int:
        ...         return 0
        ...
        ...     def apply(self, state, event):
        ...         return state + event.payload["amount"]
    """

    relevant_kinds: ClassVar[tuple[EventKind | type[Any], ...]] = ()
    """Kinds, or classes registered with `event`, that ``apply`` gets; every kind when empty."""
    name: ClassVar[str | None] = None
    """What checkpoints, caches and messages call it; ``None`` for module and class name."""
    schema_version: ClassVar[int] = 0
    """Grows when ``apply`` or the state's form changes, so that no cache gives an old one."""
    lane: ClassVar[Lane] = "typed"
    """``typed``: ``event.payload`` is the value; ``raw``: it is the msgpack ``bytes``."""
    frozen: ClassVar[bool] = False
    """``apply`` never changes the state that it gets, and nobody changes one that is handed out:
    states are not copied at all. For large states that share their parts with the one before."""
    state_type: ClassVar[Any] = None
    """Type that `SnapshotCache` decodes states to; ``None`` for plain values."""

    def initial(self) -> S:
        """The state before the first relevant event."""
        raise NotImplementedError

    def apply(self, state: S, event: Any) -> S:
        """The state after one more event, which is an `Event` or, in the raw lane, a `RawEvent`."""
        raise NotImplementedError


class MaybeStale(NamedTuple):
    """A state that was read at most so long ago is good enough."""

    ms: int
    """Milliseconds by the store's clock."""


class Consistent:
    """The state must include every event that was visible when it was asked for."""

    def __repr__(self) -> str:
        return "CONSISTENT"


CONSISTENT: Final = Consistent()
"""The state must include every event that was visible when it was asked for."""
Freshness = Consistent | MaybeStale


def resolve(projection: type[Projection[S]] | Projection[S]) -> Projection[S]:
    """The instance to fold with.

    Raises:
        TypeError: it is neither a projection nor a class of projections.
    """
    if isinstance(projection, type):
        projection = projection()
    for needed in ("initial", "apply"):
        if not callable(getattr(projection, needed, None)):
            msg = f"{projection!r} is not a projection: it has no {needed}()"
            raise TypeError(msg)
    return projection


def name_of(projection: object) -> str:
    """How messages, caches and checkpoints call a projection or a class of them."""
    kind = projection if isinstance(projection, type) else type(projection)
    return str(getattr(projection, "name", None) or f"{kind.__module__}.{kind.__qualname__}")

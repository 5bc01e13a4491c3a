"""Which events a reader gets: the one filter of this package."""

from __future__ import annotations

from dataclasses import dataclass

from starfish_watcher._model.coordinate import check_name, in_namespace
from starfish_watcher._model.event import Event
from starfish_watcher._model.event_kind import EventKind

__all__ = ("EVERYWHERE", "Region")


@dataclass(frozen=True, slots=True)
class Region:
    """Events that fulfil each condition that is given; without any, all events.

    Raises:
        TypeError: a name is not a string, or the kind neither a kind nor a category.
        ValueError: a name breaks the rules of `Coordinate`, or the category is not four bits.

    Examples:
        >>> str(Region(entity_prefix="alice", kind=0xF))
        'entity=alice|scope=*|kind=0xF'
    """

    entity_prefix: str | None = None
    """Matches by namespace: ``alice`` matches ``alice`` and ``alice:child``, not ``alice2``."""
    scope: str | None = None
    """Matches exactly."""
    kind: EventKind | int | None = None
    """A kind, or a category (0 to 15) with all its kinds."""

    def __post_init__(self) -> None:
        if self.entity_prefix is not None:
            check_name("entity prefix", self.entity_prefix)
            if self.entity_prefix.endswith(":"):
                msg = (
                    f"entity prefix {self.entity_prefix[:80]!r} is refused: it must not end with"
                    f" ':'; {self.entity_prefix.rstrip(':')[:80]!r} finds all below it"
                )
                raise ValueError(msg)
        if self.scope is not None:
            check_name("scope", self.scope)
        if self.kind is None or isinstance(self.kind, EventKind):
            return
        if not isinstance(self.kind, int):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            msg = f"kind must be an EventKind or a category, not {type(self.kind).__name__}"
            raise TypeError(msg)
        if not 0 <= self.kind <= 0xF:
            msg = f"category {self.kind:#x} is refused: it must be 0x0 to 0xF, or an EventKind"
            raise ValueError(msg)

    @property
    def kind_codes(self) -> tuple[int, int] | None:
        """First and last code of the wanted kinds; ``None`` for all."""
        if self.kind is None:
            return None
        if isinstance(self.kind, EventKind):
            return self.kind.code, self.kind.code
        return self.kind << 12, self.kind << 12 | 0xFFF

    def matches(self, event: Event) -> bool:
        """Whether the event fulfils each condition."""
        codes = self.kind_codes
        return (
            (self.entity_prefix is None or in_namespace(event.entity, self.entity_prefix))
            and (self.scope is None or event.scope == self.scope)
            and (codes is None or codes[0] <= event.kind_code <= codes[1])
        )

    def __str__(self) -> str:
        kind = "*" if self.kind is None else self.kind
        shown = f"0x{kind:X}" if isinstance(kind, int) else str(kind)
        return f"entity={self.entity_prefix or '*'}|scope={self.scope or '*'}|kind={shown}"


EVERYWHERE = Region()
"""All events."""

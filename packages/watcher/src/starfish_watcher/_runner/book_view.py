"""A projection as a view: the state of each entity in a row of the sink, whatever its engine.

Rule: a state that msgpack does not give back as it was is refused, never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar, cast

import msgspec

from starfish_protocol.events import Event
from starfish_watcher._projection.definition import Projection, name_of, resolve
from starfish_watcher._runner.sink import SinkTransaction
from starfish_watcher._runner.view import View

__all__ = ("BookView", "as_view")

S = TypeVar("S")
_Tables = tuple[str, SinkTransaction]


class BookView(View[Any], Generic[S]):
    """Keeps the states of a `Projection` in the table ``starfish_runner_state``."""

    def __init__(self, projection: type[Projection[S]] | Projection[S]) -> None:
        self._projection = resolve(projection)
        if self._projection.lane == "raw":
            msg = "the raw lane is for event stores; a runner hands out payloads as values"
            raise TypeError(msg)
        self.name = name_of(projection)  # type: ignore[misc]
        self.version = self._projection.schema_version  # type: ignore[misc]
        self.relevant_kinds = self._projection.relevant_kinds  # type: ignore[misc]

    def state(self, tables: _Tables, entity: str) -> S | None:
        """The state of an entity, ``None`` when no relevant event was folded."""
        runner, transaction = tables
        rows = transaction.execute(
            "SELECT state FROM starfish_runner_state"
            " WHERE runner = ? AND view_name = ? AND entity = ?",
            runner,
            self.name,
            entity,
        )
        if not rows:
            return None
        kind = self._projection.state_type
        state: Any = msgspec.msgpack.decode(bytes(rows[0][0]), type=Any if kind is None else kind)
        return cast("S", state)

    def apply(self, tables: _Tables, event: Event) -> None:
        """Fold the event into its entity's state."""
        self.apply_all(tables, (event,))

    def apply_all(self, tables: _Tables, events: Sequence[Event]) -> None:
        """Fold the events, and write each entity's state once."""
        runner, transaction = tables
        states: dict[str, tuple[Any, int]] = {}
        for event in events:
            known = states.get(event.entity)
            state: Any = self.state(tables, event.entity) if known is None else known[0]
            if state is None:
                state = self._projection.initial()
            states[event.entity] = self._projection.apply(state, event), event.sequence
        for entity, (state, sequence) in states.items():
            transaction.execute(
                "INSERT INTO starfish_runner_state VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (runner, view_name, entity) DO UPDATE SET"
                " state = excluded.state, sequence = excluded.sequence",
                runner,
                self.name,
                entity,
                self._encoded(state),
                sequence,
            )

    def _encoded(self, state: Any) -> bytes:
        data = msgspec.msgpack.encode(state)
        kind = self._projection.state_type
        if msgspec.msgpack.decode(data, type=Any if kind is None else kind) != state:
            msg = f"the state does not come back from msgpack as it was: set state_type of {self.name}"
            raise TypeError(msg)
        return data

    def clear(self, tables: _Tables) -> None:
        """Nothing to do: the rows belong to the runner."""


def as_view(view: Any) -> View[Any]:
    """The view itself, or a projection as one.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(view, View):
        return view  # pyright: ignore[reportUnknownVariableType] - its tables are the sink's matter
    if isinstance(view, Projection) or (isinstance(view, type) and issubclass(view, Projection)):
        return BookView(view)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - likewise
    msg = f"a view must be an instance of View, or a Projection, not {view!r:.200}"
    raise TypeError(msg)

"""What a view is: tables that follow from the events of all entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

__all__ = ("Poison", "Retry", "View")

TablesT = TypeVar("TablesT")


class View(Generic[TablesT]):
    """Changes tables of a sink with each event; subclass it, and give instances to a `Runner`.

    The tables are the sink's: a `MemoryTables`, a ``sqlite3.Connection`` or a
    ``psycopg.Connection``, inside a transaction that the runner begins and ends. A view must not
    end it. Views of one runner do not depend on each other's tables.

    Examples:
        >>> class Totals(View[Any]):
        ...     name = "totals"
        ...
        ...     def prepare(self, tables):
        ...         tables.execute("CREATE TABLE total (scope TEXT PRIMARY KEY, amount INTEGER)")
        ...
        ...     def apply(self, tables, event):
        ...         tables.execute(
        ...             "INSERT INTO total VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET"
        ...             " amount = amount + excluded.amount",
        ...             (event.scope, event.payload["amount"]),
        ...         )
    """

    name: ClassVar[str]
    """What the sink calls it; its own within a runner."""
    version: ClassVar[int] = 1
    """Grows when ``apply`` or the tables change, so that no old table is mistaken for a new one."""
    relevant_kinds: ClassVar[tuple[Any, ...]] = ()
    """Kinds of the source, or classes registered with `event`; every kind when empty."""

    def prepare(self, tables: TablesT) -> None:
        """Make the tables; called once, in the transaction that begins the view."""

    def apply(self, tables: TablesT, event: Any) -> None:
        """Change the tables; an exception takes back all that this call did."""
        raise NotImplementedError

    def apply_all(self, tables: TablesT, events: Sequence[Any]) -> None:
        """As `apply` for each; override it where many at once cost less.

        When it raises, all that it did is taken back, and each event is applied by itself.
        """
        for event in events:
            self.apply(tables, event)

    def clear(self, tables: TablesT) -> None:
        """Remove the tables; called by `Runner.reset`, and only by it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Retry:
    """Apply an event that failed again, after pauses that double, and then give up.

    Raises:
        ValueError: there is not at least one attempt, or a pause is negative.
    """

    attempts: int = 5
    """After the first one."""
    first_pause_s: float = 0.1
    """Before the first of them."""
    longest_pause_s: float = 10.0
    """Pauses grow up to this one."""
    then: Literal["stop", "park"] = "stop"
    """What to do with an event that failed each time."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_pause_s < 0 or self.longest_pause_s < 0:
            msg = f"attempts must be at least 1 and pauses not negative, in {self}"
            raise ValueError(msg)

    def pause_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        return float(min(self.first_pause_s * 2 ** (failures - 1), self.longest_pause_s))


Poison = Literal["stop", "park"] | Retry
"""What to do with an event that a view cannot take: stop there, record it and go on, or try again."""

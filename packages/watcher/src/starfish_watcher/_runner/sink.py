"""The seam between a runner and the engine that keeps its tables.

Rule 1: the views' tables and the runner's own rows change in one transaction. Rule 2: a transaction
sees what the last one left, and two of them that touch one runner never run at the same time.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from starfish_watcher.errors import WatcherError

__all__ = ("BOOK", "Sink", "SinkTransaction")

BOOK: Final = (
    """
    CREATE TABLE starfish_runner (
        name TEXT PRIMARY KEY, partitions BIGINT NOT NULL, views TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE starfish_runner_position (
        runner TEXT NOT NULL, partition_number BIGINT NOT NULL,
        sequence BIGINT NOT NULL, position TEXT NOT NULL,
        owner TEXT, lease_ms BIGINT NOT NULL, events BIGINT NOT NULL,
        PRIMARY KEY (runner, partition_number)
    )
    """,
    """
    CREATE TABLE starfish_runner_member (
        runner TEXT NOT NULL, owner TEXT NOT NULL, lease_ms BIGINT NOT NULL,
        PRIMARY KEY (runner, owner)
    )
    """,
    """
    CREATE TABLE starfish_runner_parked (
        runner TEXT NOT NULL, view_name TEXT NOT NULL, sequence BIGINT NOT NULL,
        entity TEXT NOT NULL, kind TEXT NOT NULL, event_id TEXT NOT NULL, reason TEXT NOT NULL,
        parked_ms BIGINT NOT NULL, attempts BIGINT NOT NULL,
        PRIMARY KEY (runner, view_name, sequence)
    )
    """,
    """
    CREATE TABLE starfish_runner_state (
        runner TEXT NOT NULL, view_name TEXT NOT NULL, entity TEXT NOT NULL,
        state BYTEA NOT NULL, sequence BIGINT NOT NULL,
        PRIMARY KEY (runner, view_name, entity)
    )
    """,
)
"""Tables of the runners themselves; the same SQL for SQLite and PostgreSQL."""


class SinkTransaction(Protocol):
    """One transaction of a sink."""

    @property
    def tables(self) -> Any:
        """What views change."""
        ...

    @property
    def now_ms(self) -> int:
        """Time by the sink's clock, which all processes share; milliseconds since the epoch."""
        ...

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement of the book, with ``?`` for each value."""
        ...

    def part(self) -> AbstractContextManager[object]:
        """A part of the transaction: what raises in it leaves nothing of it behind."""
        ...


class Sink(Protocol):
    """Keeps the tables of views and the positions of runners together."""

    @property
    def location(self) -> str:
        """Where the tables are, for messages: a path or a name, never a secret."""
        ...

    def transaction(self) -> AbstractContextManager[SinkTransaction]:
        """Begin; commit at the end of the block, or leave nothing when it raises.

        Raises:
            StoreUnavailableError: the storage refused; nothing was written, or a lost connection
                left it open whether all was.
            StoreMovedError: the file is not in its place.
        """
        ...

    def outage(self, error: BaseException) -> WatcherError | None:
        """The error as ours when the storage, and not a view, is its cause."""
        ...

    def close(self) -> None:
        """Release everything; may be called twice."""
        ...

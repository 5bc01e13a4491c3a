"""Tables of views in memory, which take back what a failed view did."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, Self

from starfish_protocol.clock import Clock, SystemClock
from starfish_watcher._fork_guard import ForkGuard
from starfish_watcher._runner.sink import BOOK
from starfish_watcher.errors import StoreClosed, WatcherError

__all__ = ("MemorySink", "MemoryTable", "MemoryTables")

_ABSENT: Final = object()
_Journal = list[tuple[dict[Any, Any], Any, Any]]


class MemoryTable(MutableMapping[Any, Any]):
    """A dict whose changes can be taken back; replace values, and never change one in place."""

    def __init__(self, journal: _Journal) -> None:
        self._rows: dict[Any, Any] = {}
        self._journal = journal

    def __getitem__(self, key: Any) -> Any:
        return self._rows[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._journal.append((self._rows, key, self._rows.get(key, _ABSENT)))
        self._rows[key] = value

    def __delitem__(self, key: Any) -> None:
        self._journal.append((self._rows, key, self._rows[key]))
        del self._rows[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(dict(self._rows))

    def __len__(self) -> int:
        return len(self._rows)


class MemoryTables:
    """Tables by name, made when they are asked for.

    Examples:
        >>> tables = MemoryTables()
        >>> tables["total"]["eu"] = tables["total"].get("eu", 0) + 5
        >>> dict(tables["total"])
        {'eu': 5}
    """

    def __init__(self, journal: _Journal | None = None) -> None:
        self._journal: _Journal = [] if journal is None else journal
        self._tables: dict[str, MemoryTable] = {}

    def __getitem__(self, name: str) -> MemoryTable:
        if (table := self._tables.get(name)) is None:
            table = self._tables[name] = MemoryTable(self._journal)
        return table


def _take_back(journal: _Journal, mark: int) -> None:
    while len(journal) > mark:
        rows, key, before = journal.pop()
        if before is _ABSENT:
            rows.pop(key, None)
        else:
            rows[key] = before


class _MemoryTransaction:
    def __init__(
        self, tables: MemoryTables, journal: _Journal, book: sqlite3.Connection, now_ms: int
    ) -> None:
        self.tables = tables
        self._journal = journal
        self.now_ms = now_ms
        self._book = book

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._book.execute(statement, values).fetchall()

    @contextmanager
    def part(self) -> Generator[object]:
        mark = len(self._journal)
        self._book.execute("SAVEPOINT starfish_part")
        try:
            yield None
        except BaseException:
            _take_back(self._journal, mark)
            self._book.execute("ROLLBACK TO starfish_part")
            self._book.execute("RELEASE starfish_part")
            raise
        self._book.execute("RELEASE starfish_part")


class MemorySink:
    """Tables that end with the process: for tests, and for views that are cheap to make anew."""

    location = ":memory:"

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._journal: _Journal = []
        self.tables = MemoryTables(self._journal)
        """The tables, for readers."""
        self._clock = clock or SystemClock()
        self._guard = ForkGuard()
        self._lock = threading.Lock()
        self._closed = False
        self._book = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for statement in BOOK:
            self._book.execute(statement)

    @contextmanager
    def transaction(self) -> Generator[_MemoryTransaction]:
        """As `Sink.transaction`."""
        self._guard.check()
        with self._lock:
            if self._closed:
                msg = "the sink in memory was closed"
                raise StoreClosed(msg)
            self._book.execute("BEGIN")
            try:
                yield _MemoryTransaction(
                    self.tables, self._journal, self._book, self._clock.now_ms()
                )
                self._book.execute("COMMIT")
            except BaseException:
                _take_back(self._journal, 0)
                self._book.execute("ROLLBACK")
                raise
            self._journal.clear()

    def outage(self, error: BaseException) -> WatcherError | None:
        """Only what the runner itself raised: memory has no outages."""
        return error if isinstance(error, WatcherError) else None

    def close(self) -> None:
        """Release the book; the tables can still be read. May be called twice."""
        if self._guard.is_inherited:
            return
        with self._lock:
            if not self._closed:
                self._closed = True
                self._book.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""The copy of a stream that a `JetStreamEventLog` reads from: a SQLite event log that follows it.

The stream decides what happened and in which order; the replica only repeats it, so that reads
have snapshots, indexes and a transaction. It can be thrown away at any time.

Rule 1: a transaction ends after the last message of an atomic batch, so that nobody sees a part.
Rule 2: a hole in the stream is a compaction whose record comes later; until that was read,
nothing that came after the hole is shown.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from starfish_watcher._model.receipt import Receipt
from starfish_watcher._model.stored_payload import payload_check
from starfish_watcher.errors import StoreDamagedError, StoreUnavailableError
from starfish_watcher.log.base import MARK_BYTES, NO_EVENTS, EntityHead
from starfish_watcher.log.jetstream._messages import (
    EventMessage,
    KeyResidue,
    RemovalMessage,
    Removed,
    StreamMessage,
    decode_message,
)
from starfish_watcher.log.plan import KeyRecord
from starfish_watcher.log.sqlite import SqliteEventLog
from starfish_watcher.log.sqlite._columns import CHECKED_COLUMNS
from starfish_watcher.log.sqlite._file import connect, event_file, translated

if sys.platform != "win32":
    import fcntl

__all__ = ("PlanBase", "Replica", "StoredMessage")

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS stream (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        position INTEGER NOT NULL,
        mark BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS stream_events (
        sequence INTEGER PRIMARY KEY,
        stream_sequence INTEGER NOT NULL
    ) STRICT
    """,
    # Messages of removed events that may not have been deleted yet.
    "CREATE TABLE IF NOT EXISTS stream_leftovers (stream_sequence INTEGER PRIMARY KEY) STRICT",
    "INSERT OR IGNORE INTO stream VALUES (1, 0, x'')",
    "CREATE INDEX IF NOT EXISTS idempotency_by_sequence ON idempotency (sequence)",
)
_INSERT_EVENT = f"INSERT INTO events ({CHECKED_COLUMNS}) VALUES ({','.join(14 * '?')})"  # noqa: S608 - names of columns
_UPSERT_HEAD = (
    "INSERT INTO entities (entity, generation, sequence, event_hash, removed)"
    " VALUES (?, ?, ?, ?, ?) ON CONFLICT (entity) DO UPDATE SET generation = excluded.generation,"
    " sequence = excluded.sequence, event_hash = excluded.event_hash"
)
_INSERT_KEY = "INSERT OR IGNORE INTO idempotency VALUES (?, ?, ?, ?, ?, ?)"


class StoredMessage(NamedTuple):
    """A message as the stream has it."""

    stream_sequence: int
    body: bytes


class PlanBase(NamedTuple):
    """What an append is judged against, from one snapshot."""

    position: int
    """Sequence of the newest message of the stream that is part of it."""
    last_sequence: int
    heads: dict[str, EntityHead]
    records: dict[str, KeyRecord]
    newest_id: bytes | None


class Replica:
    """Repeats a stream; reads from many threads, one writer at a time."""

    def __init__(self, path: str | os.PathLike[str] | None, writer: bytes) -> None:
        """Open the file, or make one that `close` removes.

        Raises:
            StoreDamagedError: the file is something else.
            StoreUnavailableError: it cannot be used, or another log uses it.
        """
        self._writer_id = writer
        self._resources = ExitStack()
        try:
            if path is None:
                folder = tempfile.TemporaryDirectory(prefix="starfish-replica-")
                self._resources.callback(folder.cleanup)
                self._path = Path(folder.name) / "replica.db"
            else:
                self._path = Path(path).absolute()
                self._resources.enter_context(_locked(self._path))
            self.log = SqliteEventLog(self._path, check="none")
            """Where reads go."""
            self._resources.callback(self.log.close)
            self._file = event_file(self._path)
            with translated(str(self._path)):
                self._connection = connect(self._file)
                self._resources.callback(self._connection.close)
                # It can be thrown away, so it need not survive a power failure, only be whole.
                level = "OFF" if path is None else "NORMAL"
                self._connection.execute(f"PRAGMA synchronous = {level}")
                for statement in _TABLES:
                    self._connection.execute(statement)
        except BaseException:
            self._resources.close()
            raise
        self._changed = threading.Condition(threading.Lock())
        self._hold_until = 0
        self._load()

    def _load(self) -> None:
        position, mark = self._connection.execute("SELECT position, mark FROM stream").fetchone()
        self._position: int = position
        self._applied: int = position
        self.mark: bytes = mark
        """Hash of the message at `position`."""
        self.foreign = 0
        """Grows when something was shown that another handle wrote."""
        self._foreign_taken = False
        self.closed_at = 0
        """Sequence of the newest message by which another handle closed all."""

    @property
    def position(self) -> int:
        """Sequence of the newest message of the stream that readers see the effect of."""
        return self._position

    @property
    def applied(self) -> int:
        """Sequence of the newest message that was taken, shown or not."""
        return self._applied

    def begin(self, store_id: str, is_current: Callable[[int, bytes], bool]) -> None:
        """Make it a replica of ``store_id``, from nothing unless it is one and ``is_current``."""
        with self._changed, translated(str(self._path)):
            execute = self._connection.execute
            (own_id,) = execute("SELECT store_id FROM log").fetchone()
            if own_id == store_id and (
                self._position == 0 or is_current(self._position, self.mark)
            ):
                return
            execute("BEGIN IMMEDIATE")
            for table in (
                "events",
                "entities",
                "idempotency",
                "removed",
                "stream_events",
                "stream_leftovers",
            ):
                execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
            execute("UPDATE stream SET position = 0, mark = x''")
            execute("UPDATE log SET last_sequence = 0, newest_id = NULL, store_id = ?", (store_id,))
            execute("COMMIT")
            self._load()

    def has_hole(self, messages: Sequence[StoredMessage]) -> bool:
        """Whether messages are missing before or between these."""
        last = self._applied
        for sequence, _ in messages:
            if sequence > last + 1:
                return True
            last = max(last, sequence)
        return False

    def hold_until(self, position: int) -> None:
        """Show nothing before the message at ``position`` was taken."""
        with self._changed:
            self._hold_until = max(self._hold_until, position)

    def apply(self, messages: Sequence[StoredMessage]) -> None:
        """Take messages in their order; those that were taken before do nothing.

        Raises:
            StoreDamagedError: a message is not of an event log, or does not fit.
        """
        with self._changed, translated(str(self._path)):
            fresh = [stored for stored in messages if stored.stream_sequence > self._applied]
            decoded = [self._decode(stored) for stored in fresh]
            ends = [
                index
                for index, message in enumerate(decoded)
                if message.more == 0 and fresh[index].stream_sequence >= self._hold_until
            ]
            try:
                for index, message in enumerate(decoded):
                    self._take(fresh[index].stream_sequence, message)
                    if ends and index == ends[-1]:
                        self._show(fresh[index])
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self._applied = self._position
                raise
            if ends:
                self._changed.notify_all()

    def _decode(self, stored: StoredMessage) -> StreamMessage:
        try:
            return decode_message(stored.body)
        except ValueError as error:
            raise self._damaged(
                stored.stream_sequence, f"no event log wrote it: {error}"
            ) from error

    def _take(self, stream_sequence: int, message: StreamMessage) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        foreign = message.writer != self._writer_id
        if isinstance(message, EventMessage):
            self._add(stream_sequence, message)
        elif isinstance(message, RemovalMessage):
            self._remove(message)
        elif foreign:
            self.closed_at = stream_sequence
        self._foreign_taken |= foreign
        self._applied = stream_sequence

    def _show(self, last: StoredMessage) -> None:
        mark = blake3(last.body).digest()
        self._connection.execute(
            "UPDATE stream SET position = ?, mark = ?", (last.stream_sequence, mark)
        )
        self._connection.execute("COMMIT")
        self._position, self.mark = last.stream_sequence, mark
        self.foreign += self._foreign_taken
        self._foreign_taken = False

    def _add(self, stream_sequence: int, message: EventMessage) -> None:
        fields = message.fields
        sequence, entity, _, clock, _, event_id = fields[:6]
        payload, event_hash = fields[9], fields[11]
        execute = self._connection.execute
        try:
            execute(_INSERT_EVENT, (*fields, message.metadata, payload_check(payload)))
        except sqlite3.IntegrityError as error:
            raise self._damaged(stream_sequence, f"event {sequence} was there before") from error
        execute("INSERT INTO stream_events VALUES (?, ?)", (sequence, stream_sequence))
        execute(_UPSERT_HEAD, (entity, clock + 1, sequence, event_hash, 0))
        if message.key is not None:
            execute(
                _INSERT_KEY,
                (message.key, message.content, event_id, sequence, clock, event_hash),
            )
        execute("UPDATE log SET last_sequence = ?, newest_id = ?", (sequence, event_id))

    def _remove(self, message: RemovalMessage) -> None:
        gone = [(sequence,) for sequence in message.sequences]
        many = self._connection.executemany
        many(
            "INSERT OR IGNORE INTO stream_leftovers"
            " SELECT stream_sequence FROM stream_events WHERE sequence = ?",
            gone,
        )
        many(
            f"INSERT OR IGNORE INTO removed SELECT sequence, substr(event_hash, 1, {MARK_BYTES})"  # noqa: S608 - a number
            " FROM events WHERE sequence = ?",
            gone,
        )
        many("DELETE FROM events WHERE sequence = ?", gone)
        many("DELETE FROM stream_events WHERE sequence = ?", gone)
        heads = message.heads.items()
        many(_UPSERT_HEAD, [(entity, *head) for entity, head in heads])
        self._connection.execute("UPDATE log SET removals = removals + 1")
        many(
            "UPDATE entities SET removed = ?, removed_in = (SELECT removals FROM log)"
            " WHERE entity = ?",
            [(head[3], entity) for entity, head in heads],
        )
        many(_INSERT_KEY, [(kept.key, kept.content, *kept.receipt) for kept in message.keys])
        self._connection.execute(
            "UPDATE log SET last_sequence = max(last_sequence, ?)", (message.last_sequence,)
        )

    def _damaged(self, stream_sequence: int, reason: str) -> StoreDamagedError:
        return StoreDamagedError(str(self._path), f"message {stream_sequence}: {reason}")

    def wait_for(self, position: int, timeout: float, stopping: Callable[[], bool]) -> bool:
        """Return true when the message at ``position`` is shown, false when the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._position >= position or stopping(), timeout)
            return self._position >= position

    def wait_for_foreign(self, seen: int, stopping: Callable[[], bool]) -> int:
        """Return `foreign` when it is above ``seen``, or ``stopping()`` was true after a `wake`."""
        with self._changed:
            self._changed.wait_for(lambda: self.foreign > seen or stopping())
            return self.foreign

    def wake(self) -> None:
        """Make everybody who waits look again."""
        with self._changed:
            self._changed.notify_all()

    def plan_base(self, entities: Sequence[str], keys: Sequence[str]) -> PlanBase:
        """The heads and key records that an append needs."""
        with self._snapshot() as connection:
            position, last, newest_id = connection.execute(
                "SELECT position, last_sequence, newest_id FROM stream, log"
            ).fetchone()
            heads: dict[str, EntityHead] = {}
            for entity in entities:
                row = connection.execute(
                    "SELECT generation, sequence, event_hash, removed FROM entities"
                    " WHERE entity = ?",
                    (entity,),
                ).fetchone()
                heads[entity] = EntityHead(*row) if row else NO_EVENTS
            records: dict[str, KeyRecord] = {}
            for key in keys:
                row = connection.execute(
                    "SELECT content, event_id, sequence, clock, event_hash FROM idempotency"
                    " WHERE key = ?",
                    (key,),
                ).fetchone()
                if row:
                    records[key] = KeyRecord(row[0], Receipt(*row[1:]))
        return PlanBase(position, last, heads, records, newest_id)

    def removal_base(self, sequences: Sequence[int]) -> tuple[int, int, list[Removed]]:
        """Position, last sequence, and which of the events are there."""
        with self._snapshot() as connection:
            position, last = connection.execute(
                "SELECT position, last_sequence FROM stream, log"
            ).fetchone()
            removed: list[Removed] = []
            counts: dict[str, int] = {}
            for sequence in sorted(set(sequences)):
                row = connection.execute(
                    "SELECT e.entity, h.generation, h.sequence, h.event_hash, h.removed,"
                    " k.key, k.content, k.event_id, k.sequence, k.clock, k.event_hash"
                    " FROM events e JOIN entities h USING (entity)"
                    " LEFT JOIN idempotency k ON k.sequence = e.sequence WHERE e.sequence = ?",
                    (sequence,),
                ).fetchone()
                if row:
                    entity = row[0]
                    counts[entity] = counts.get(entity, 0) + 1
                    key = None if row[5] is None else KeyResidue(row[5], row[6], row[7:])
                    removed.append(Removed(sequence, entity, EntityHead(*row[1:5]), key))
        counted = [
            one._replace(head=one.head._replace(removed=one.head.removed + counts[one.entity]))
            for one in removed
        ]
        return position, last, counted

    @contextmanager
    def _snapshot(self) -> Generator[sqlite3.Connection]:
        with translated(str(self._path)):
            connection = self._file.connect()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                connection.close()

    def leftovers(self) -> list[int]:
        """Stream sequences of removed events that may still be stored."""
        with self._changed, translated(str(self._path)):
            rows = self._connection.execute("SELECT stream_sequence FROM stream_leftovers")
            return [sequence for (sequence,) in rows]

    def forget_leftovers(self, stream_sequences: Sequence[int]) -> None:
        """They are deleted now."""
        with self._changed, translated(str(self._path)):
            self._connection.executemany(
                "DELETE FROM stream_leftovers WHERE stream_sequence = ?",
                [(sequence,) for sequence in stream_sequences],
            )

    def close(self) -> None:
        """Release the file, and remove it when it was made here."""
        with self._changed:
            self._changed.notify_all()
        self._resources.close()


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Keep other logs away from a replica that lasts."""
    try:
        with path.with_name(f"{path.name}.lock").open("ab") as file:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise StoreUnavailableError(str(path), "another log uses it; give each its own") from error
    except OSError as error:
        raise StoreUnavailableError(str(path), str(error)) from error

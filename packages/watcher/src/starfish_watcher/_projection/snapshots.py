"""States of projections on disk, so that a new process need not fold from the start.

Rule: the cache may only save time. A row is used when its checksum holds, it was made for this
entity, by a projection of this name, with this code, ``schema_version`` and kinds, and the log still
has the event that was the entity's newest then, with the same hash, and removed nothing since.
Anything else, an unreadable file included, costs a replay.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from blake3 import blake3

from starfish_watcher._projection.definition import Projection, name_of
from starfish_watcher._projection.fingerprint import fingerprint_of
from starfish_watcher._projection.fold import Folded, kind_codes
from starfish_watcher.log.base import EntityHead, EventLog

__all__ = ("SnapshotCache",)

logger = logging.getLogger(__name__)
FORMAT: Final = 2
TABLE: Final = f"snapshots_{FORMAT}"
_PLAIN_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})


class SnapshotCache:
    """A SQLite file of states, of any number of stores; delete it whenever no process uses it.

    States that msgpack does not give back as they were are not cached: with ``state_type`` unset
    that is everything but None, bool, int, float, str, bytes, and lists and dicts of them; with it
    set, everything that is not equal to itself after a round trip through that type.
    """

    def __init__(self, path: str | os.PathLike[str], *, min_events: int = 64) -> None:
        self._path = Path(path)
        self._min_events = min_events
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._saved: dict[bytes, int] = {}
        self._warned = False

    @property
    def min_events(self) -> int:
        """A state is saved when the entity has so many events more than at the last time."""
        return self._min_events

    def load(self, log: EventLog, projection: Projection[Any], entity: str) -> Folded | None:
        """A state that the log vouches for, if there is one."""
        key = _key(log, projection, entity)
        if key is None:
            return None
        try:
            with self._lock:
                row = (
                    self._opened()
                    .execute(f"SELECT body, checksum FROM {TABLE} WHERE key = ?", (key,))  # noqa: S608 - a constant
                    .fetchone()
                )
            if row is None or blake3(key + row[0]).digest() != row[1]:
                return None
            generation, sequence, event_hash, removed, watermark, state_bytes = cast(
                "tuple[int, int, bytes, int, int, bytes]", msgspec.msgpack.decode(row[0])
            )
            head = EntityHead(generation, sequence, event_hash, removed)
            if not _vouched_for(log, entity, head):
                return None
            state = _decoded(projection, state_bytes)
        except (sqlite3.Error, OSError, TypeError, ValueError, msgspec.MsgspecError) as error:
            self._give_up(error)
            return None
        self._saved[key] = generation
        return Folded(head, watermark, state)

    def save(self, log: EventLog, projection: Projection[Any], entity: str, folded: Folded) -> None:
        """Keep the state, when it is worth it and has a form that gives it back."""
        key = _key(log, projection, entity)
        if key is None:
            return
        if folded.head.generation - self._saved.get(key, 0) < self._min_events:
            return
        state_bytes = _encoded(projection, folded.state)
        if state_bytes is None:
            return
        body = msgspec.msgpack.encode((*folded.head, folded.watermark, state_bytes))
        try:
            with self._lock:
                self._opened().execute(
                    f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?, ?, ?)",  # noqa: S608 - a constant
                    (key, _entity_key(log, entity), body, blake3(key + body).digest()),
                )
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            return
        self._saved[key] = folded.head.generation

    def forget(self, log: EventLog, entities: Iterable[str]) -> None:
        """Leave nothing of the entities' states in the file."""
        keys = [(_entity_key(log, entity),) for entity in entities]
        try:
            with self._lock:
                if self._connection is None and not self._path.exists():
                    return
                connection = self._opened()
                connection.executemany(f"DELETE FROM {TABLE} WHERE entity = ?", keys)  # noqa: S608 - a constant
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._saved.clear()
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                self._path, timeout=1.0, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("PRAGMA secure_delete = ON")
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {TABLE} (key BLOB PRIMARY KEY,"
                    " entity BLOB NOT NULL, body BLOB NOT NULL, checksum BLOB NOT NULL)"
                )
                connection.execute(
                    f"CREATE INDEX IF NOT EXISTS {TABLE}_by_entity ON {TABLE} (entity)"
                )
                connection.execute("DROP TABLE IF EXISTS snapshots_1")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _give_up(self, error: Exception) -> None:
        """Do without: a row is written over by the next save, a file is for its owner to delete."""
        if isinstance(error, sqlite3.Error) and not self._warned:
            self._warned = True
            logger.warning(
                "snapshot cache %s does not work and may be deleted: %s", self._path, error
            )

    def close(self) -> None:
        """Release the file; it is opened again when it is needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._saved.clear()


def _key(log: EventLog, projection: Projection[Any], entity: str) -> bytes | None:
    fingerprint = fingerprint_of(projection)
    if fingerprint is None:
        return None
    parts = (
        log.store_id,
        entity,
        name_of(projection),
        fingerprint,
        str(projection.schema_version),
        ",".join(map(str, kind_codes(projection))),
        projection.lane,
    )
    return blake3(msgspec.msgpack.encode(parts)).digest()


def _entity_key(log: EventLog, entity: str) -> bytes:
    return blake3(msgspec.msgpack.encode((log.store_id, entity))).digest()


def _vouched_for(log: EventLog, entity: str, head: EntityHead) -> bool:
    now = log.head(entity)
    if now.removed != head.removed or now.generation < head.generation:
        return False
    newest = log.read(head.sequence - 1, 1)
    return (
        bool(newest)
        and newest[0].sequence == head.sequence
        and newest[0].entity == entity
        and newest[0].event_hash == head.event_hash
    )


def _encoded(projection: Projection[Any], state: Any) -> bytes | None:
    if projection.state_type is None and not _is_plain(state):
        return None
    try:
        data = msgspec.msgpack.encode(state)
        same = bool(_decoded(projection, data) == state)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None
    return data if same else None


def _decoded(projection: Projection[Any], data: bytes) -> Any:
    if projection.state_type is None:
        return msgspec.msgpack.decode(data)
    return msgspec.msgpack.decode(data, type=projection.state_type)


def _is_plain(state: object) -> bool:
    pending = [state]
    while pending:
        value = pending.pop()
        if type(value) in _PLAIN_SCALARS:
            continue
        if type(value) is list:
            pending += cast("list[object]", value)
        elif type(value) is dict:
            members = cast("dict[object, object]", value)
            if any(type(key) not in _PLAIN_SCALARS for key in members):
                return False
            pending += members.values()
        else:
            return False
    return True

"""Move a whole store through lines of JSON, and copy it while it is open.

The first line says format, version and counts; then come the entities, the idempotency keys, the
marks of removed events, and the events, a line each. An event has its ``payload`` for readers, in
the newest version of its type, and its stored bytes in base64, from which it is restored.

Rule 1: an export is of one moment. Rule 2: an import is one transaction into a new file: all of it,
with every hash computed again, or nothing. It is a new store with an id of its own, so that
positions of the old one are refused by it.
"""

from __future__ import annotations

import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from starfish_disk.durable import create_file, remove_file, sync_file
from starfish_watcher._model.event import Event
from starfish_watcher._model.stored_payload import payload_check, verified
from starfish_watcher.errors import ImportRefusedError, WatcherError
from starfish_watcher.log.sqlite._columns import CHECKED_COLUMNS
from starfish_watcher.log.sqlite._file import event_file, prepare_file, translated

__all__ = ("back_up", "export_lines", "import_lines", "shown_event", "vacuum")

_FORMAT: Final = "starfish-watcher-export"
_VERSION: Final = 1
_PAGE: Final = 1024
_TABLES: Final = {
    "entity": ("entities", ("entity", "generation", "sequence", "event_hash", "removed")),
    "key": ("idempotency", ("key", "content", "event_id", "sequence", "clock", "event_hash")),
    "removed": ("removed", ("sequence", "mark")),
}


def export_lines(path: Path) -> Generator[str]:
    """The lines of the store at ``path``, each without its end.

    Raises:
        StoreDamagedError: a payload is not the one that was written.
        StoreUnavailableError: the file cannot be read.
    """
    location = str(path)
    connection, state = prepare_file(event_file(path), "none")
    with closing(connection), translated(location):
        connection.execute("BEGIN")
        (last,) = connection.execute("SELECT last_sequence FROM log").fetchone()
        (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
        yield json.dumps(
            {
                "format": _FORMAT,
                "version": _VERSION,
                "store_id": state.store_id,
                "last_sequence": last,
                "events": count,
            }
        )
        for label, (table, columns) in _TABLES.items():
            query = f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1"  # noqa: S608 - names of this module
            for row in connection.execute(query):
                yield json.dumps({label: dict(zip(columns, map(_shown, row), strict=True))})
        after = 0
        query = f"SELECT {CHECKED_COLUMNS} FROM events WHERE sequence > ? ORDER BY 1 LIMIT {_PAGE}"  # noqa: S608 - likewise
        while rows := connection.execute(query, (after,)).fetchall():
            for event in verified(location, rows):
                yield json.dumps({"event": shown_event(event) | _stored(event)})
            after = rows[-1][0]


def shown_event(event: Event) -> dict[str, Any]:
    """The event as plain values of JSON, its payload in the newest version."""
    shown: dict[str, Any] = {
        "sequence": event.sequence,
        "entity": event.entity,
        "scope": event.scope,
        "clock": event.clock,
        "kind": str(event.kind),
        "event_id": str(event.event_id),
        "timestamp_us": event.timestamp_us,
        "correlation_id": event.correlation_id and str(event.correlation_id),
        "causation_id": event.causation_id and str(event.causation_id),
        "type": event.type_name,
        "type_version": event.type_version,
    }
    try:
        shown["payload"] = msgspec.to_builtins(event.payload, str_keys=True)
    except WatcherError as error:
        shown["payload"] = None
        shown["payload_error"] = str(error)
    shown["metadata"] = msgspec.to_builtins(event.metadata)
    return shown


def _stored(event: Event) -> dict[str, Any]:
    return {
        "payload_bytes": _shown(event.payload_bytes),
        "metadata_bytes": _shown(event.metadata_bytes),
        "previous_hash": event.previous_hash.hex(),
        "event_hash": event.event_hash.hex(),
    }


def _shown(value: Any) -> Any:
    return b64encode(value).decode() if isinstance(value, bytes) else value


def import_lines(path: Path, lines: Iterable[str]) -> int:
    """Make a store at ``path`` of the lines of an export; how many events it has.

    Raises:
        ImportRefusedError: a file is there, or a line is not one of an export; nothing is left.
        StoreUnavailableError: the file cannot be written; nothing is left.
    """
    location = str(path)
    if path.exists():
        raise ImportRefusedError(location, 0, "a file is there already; name a new one")
    file = event_file(path)
    connection, _ = prepare_file(file, "none")
    try:
        with closing(connection), translated(location), file.transaction(connection):
            count = _restore(location, connection, lines)
    except BaseException:
        for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            if name.exists():
                remove_file(name)
        raise
    return count


def _restore(location: str, connection: sqlite3.Connection, lines: Iterable[str]) -> int:
    header: dict[str, Any] | None = None
    heads: dict[str, tuple[int, bytes]] = {}
    count, last, newest = 0, 0, None
    for number, line in enumerate(lines, 1):
        try:
            record: dict[str, Any] = json.loads(line)
            if header is None:
                header = _checked_header(record)
                continue
            ((label, fields),) = record.items()
            if label != "event":
                _insert(connection, label, fields)
                continue
            event = _event_of(fields)
            _check(event, last, heads.get(event.entity))
            connection.execute(
                f"INSERT INTO events ({CHECKED_COLUMNS}) VALUES ({','.join('?' * 14)})",  # noqa: S608 - names of this package
                (*msgspec.structs.astuple(event), payload_check(event.payload_bytes)),
            )
            heads[event.entity] = event.clock, event.event_hash
            last, count, newest = event.sequence, count + 1, event.id_bytes
        except (ValueError, TypeError, KeyError, AttributeError, sqlite3.IntegrityError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ImportRefusedError(location, number, reason) from error
    if header is None or count != header["events"]:
        wanted = "a header" if header is None else f"{header['events']} events"
        raise ImportRefusedError(location, 0, f"it ends after {count} events, without {wanted}")
    _check_heads(location, connection, header["last_sequence"], heads)
    connection.execute(
        "UPDATE log SET last_sequence = ?, newest_id = ?", (header["last_sequence"], newest)
    )
    return count


def _checked_header(record: dict[str, Any]) -> dict[str, Any]:
    if record.get("format") != _FORMAT:
        msg = f"it does not begin with the format {_FORMAT!r}"
        raise ValueError(msg)
    if record.get("version") != _VERSION:
        msg = f"version {record.get('version')} is not known, this program reads {_VERSION}"
        raise ValueError(msg)
    return {"events": int(record["events"]), "last_sequence": int(record["last_sequence"])}


_BYTES: Final = frozenset({"event_hash", "content", "event_id", "mark"})


def _insert(connection: sqlite3.Connection, label: str, fields: dict[str, Any]) -> None:
    table, columns = _TABLES[label]
    values = [b64decode(fields[name]) if name in _BYTES else fields[name] for name in columns]
    connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({','.join('?' * len(columns))})",  # noqa: S608 - names of this module
        values,
    )


def _event_of(fields: dict[str, Any]) -> Event:
    def of_uuid(text: str | None) -> bytes | None:
        return None if text is None else bytes.fromhex(text.replace("-", ""))

    metadata = fields["metadata_bytes"]
    return Event(
        int(fields["sequence"]),
        fields["entity"],
        fields["scope"],
        int(fields["clock"]),
        int(fields["kind"], 16),
        of_uuid(fields["event_id"]) or b"",
        int(fields["timestamp_us"]),
        of_uuid(fields["correlation_id"]),
        of_uuid(fields["causation_id"]),
        b64decode(fields["payload_bytes"]),
        bytes.fromhex(fields["previous_hash"]),
        bytes.fromhex(fields["event_hash"]),
        None if metadata is None else b64decode(metadata),
    )


def _check(event: Event, last: int, head: tuple[int, bytes] | None) -> None:
    if event.sequence <= last:
        msg = f"sequence {event.sequence} follows {last}"
        raise ValueError(msg)
    if event.computed_hash() != event.event_hash:
        msg = f"event {event.sequence} does not have its hash"
        raise ValueError(msg)
    if head is not None and event.clock <= head[0]:
        msg = f"event {event.sequence} has clock {event.clock} after {head[0]}"
        raise ValueError(msg)
    if head is not None and event.clock == head[0] + 1 and event.previous_hash != head[1]:
        msg = f"event {event.sequence} does not follow from the one before it"
        raise ValueError(msg)


def _check_heads(
    location: str, connection: sqlite3.Connection, last: int, heads: dict[str, tuple[int, bytes]]
) -> None:
    rows = connection.execute(
        "SELECT entity, generation, event_hash, removed FROM entities"
    ).fetchall()
    known = {row[0]: row[1:] for row in rows}
    stored = dict(connection.execute("SELECT entity, count(*) FROM events GROUP BY entity"))
    for entity in {*heads, *known}:
        generation, event_hash, removed = known.get(entity, (0, b"", 0))
        clock, found = heads.get(entity, (-1, b""))
        fits = stored.get(entity, 0) == generation - removed and clock < generation
        if not fits or (clock + 1 == generation and clock >= 0 and found != event_hash):
            raise ImportRefusedError(location, 0, f"the events of {entity!r} do not fit its head")
    if sum(generation for generation, _, _ in known.values()) != last:
        raise ImportRefusedError(location, 0, f"its entities do not add up to {last} events")


def back_up(path: Path, target: Path, on_progress: Callable[[int, int], None] | None = None) -> int:
    """Copy the store at ``path``, as it is at one moment, while others write; size in bytes.

    The copy is the same store: it has its id. It is on disk when this returns.

    Raises:
        StoreUnavailableError: ``target`` is there already, or cannot be written.
    """
    connection, _ = prepare_file(event_file(path), "none")
    with closing(connection), translated(str(target)):
        create_file(target, b"")
        try:
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                connection.backup(
                    copy,
                    pages=4096,
                    progress=None
                    if on_progress is None
                    else lambda _, left, total: on_progress(total - left, total),
                )
            sync_file(target)
        except BaseException:
            remove_file(target)
            raise
    return target.stat().st_size


def vacuum(path: Path) -> None:
    """Give the unused space of the file back to the file system.

    Raises:
        StoreUnavailableError: others keep the file busy, or there is no room for a copy.
    """
    connection, _ = prepare_file(event_file(path), "none")
    with closing(connection), translated(str(path)):
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

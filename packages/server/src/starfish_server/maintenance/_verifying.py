"""Read everything in a store and compare it with its own hashes and with the change log."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from starfish_disk.errors import DiskError
from starfish_disk.sqlite_errors import sqlite_errors_translated
from starfish_disk.sqlite_file import SqliteFile
from starfish_protocol.clock import SystemClock
from starfish_protocol.hash import compute_hash
from starfish_server.documents._append_log import AppendLog, PullBounds
from starfish_server.documents._append_text import Head
from starfish_server.documents._document_text import Snapshot
from starfish_server.documents._errors import DamagedDocumentError
from starfish_server.maintenance._documents import is_own_record, kind_of
from starfish_server.maintenance._export_file import OnProgress
from starfish_server.maintenance._store_place import StorePlace
from starfish_server.storage._sqlite_layouts import APPLICATION_ID, LAYOUTS
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.object_store import ObjectStore
from starfish_server.storage.values import Metadata, Stored

__all__ = ("Verification", "verify_store")

_PAGE = 500
_LARGE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Verification:
    """How much was read, and the damage that was found."""

    documents: int = 0
    """Documents and blobs that were read."""
    problems: list[str] = field(default_factory=list[str])
    """One sentence each."""


async def verify_store(place: StorePlace, on_progress: OnProgress) -> Verification:
    """Check a store while it is in use; nothing is changed.

    Raises:
        MissingError: there is not a store.
        StoreError: the store does not answer.
    """
    place.require()
    found = Verification()
    if place.kind == "sqlite":
        found.problems += await asyncio.to_thread(_file_problems, place)
        if found.problems:
            return found
    opened = place.open()
    try:
        store = as_object_store(opened)
        async for key in _keys(store):
            problem = await _problem_of(store, key)
            found.documents += 1
            if problem is not None:
                found.problems.append(problem)
            on_progress(found.documents, None)
    finally:
        await opened.close()
    return found


def _file_problems(place: StorePlace) -> list[str]:
    file = SqliteFile(place.path, application_id=APPLICATION_ID, layouts=LAYOUTS)
    try:
        with file.read_only() as connection, sqlite_errors_translated(place.path):
            rows = connection.execute("PRAGMA integrity_check(20)").fetchall()
            problems = [f"the database file is damaged: {text}" for (text,) in rows if text != "ok"]
            return problems or _log_problems(connection)
    except DiskError as error:
        return [f"{place.path}: {error.reason}"]


def _log_problems(connection: sqlite3.Connection) -> list[str]:
    """Documents that the change log has and the store has not, or has in another version."""
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    if layout < len(LAYOUTS):
        return []  # the server brings the file up to date when it opens it
    rows = connection.execute(
        "WITH newest AS (SELECT max(sequence) AS sequence FROM change GROUP BY key) "
        "SELECT change.key, change.hash, document.hash, document.key IS NULL "
        "FROM newest JOIN change USING (sequence) LEFT JOIN document USING (key) "
        "WHERE NOT change.deleted AND (document.key IS NULL OR document.hash != change.hash)"
    )
    return [
        f"{key!r}: the change log has it, the store has not"
        if is_missing
        else f"{key!r}: the document has hash {stored}, and its newest change {logged}"
        for key, logged, stored, is_missing in rows
    ]


async def _keys(store: ObjectStore) -> AsyncGenerator[str]:
    after: str | None = None
    while entries := await store.scan("", after=after, limit=_PAGE):
        for entry in entries:
            if not is_own_record(entry.key):
                yield entry.key
        after = entries[-1].key


async def _problem_of(store: ObjectStore, key: str) -> str | None:
    metadata = await store.stat(key)
    if metadata is not None and _is_large_blob(metadata):
        return await _problem_of_large(store, key)
    found = await store.get(key)
    if found is None:  # removed since it was listed
        return None
    kind = kind_of(found.body, found.metadata.content_type)
    try:
        if kind == "append-only document":
            return await _problem_of_elements(store, key, found)
        return await asyncio.to_thread(_problem_of_value, key, found)
    except DamagedDocumentError as error:
        return str(error)


def _is_large_blob(metadata: Metadata) -> bool:
    is_large = metadata.size > _LARGE_BYTES and metadata.hash is not None
    return is_large and kind_of(b"", metadata.content_type) == "bytes"


def _problem_of_value(key: str, found: Stored) -> str | None:
    if kind_of(found.body, found.metadata.content_type) == "bytes":
        expected, actual = found.metadata.hash, hashlib.sha256(found.body).hexdigest()
        if expected is not None and expected != actual:
            return f"{key!r}: the bytes have SHA-256 {actual}, not {expected}"
        return None
    document = Snapshot.parse(key, found.body).document(key)
    actual = compute_hash(document.data)
    if document.hash != actual:
        return f"{key!r}: the document has hash {actual}, not {document.hash}"
    return None


async def _problem_of_large(store: ObjectStore, key: str) -> str | None:
    digest = hashlib.sha256()
    first = 0
    while True:
        piece = await store.read_range(key, first, first + _LARGE_BYTES - 1)
        if piece is None:
            return None
        digest.update(piece.body)
        first += _LARGE_BYTES
        if first >= piece.metadata.size:
            break
    if len(piece.body) == 0 or digest.hexdigest() == piece.metadata.hash:
        return None
    current = await store.stat(key)
    if current is None or current.etag != piece.metadata.etag:
        return None  # written meanwhile
    return f"{key!r}: the bytes have SHA-256 {digest.hexdigest()}, not {piece.metadata.hash}"


async def _problem_of_elements(store: ObjectStore, key: str, found: Stored) -> str | None:
    head = Head.parse(key, found.body)
    page = await AppendLog(store, SystemClock()).read(key, PullBounds())
    if len(page.elements) < head.count:
        return f"{key!r}: {len(page.elements)} elements are there, not {head.count}"
    last = page.elements[len(page.elements) - 1]["data"] if page.elements else None
    actual = compute_hash({"n": len(page.elements), "last": last})
    if page.hash != actual:
        return f"{key!r}: the elements have hash {actual}, not {page.hash}"
    return None

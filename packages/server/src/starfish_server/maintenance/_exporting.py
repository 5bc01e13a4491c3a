"""Write the documents of a store into an export."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starfish_disk.durable import new_file
from starfish_server.maintenance._documents import is_own_record
from starfish_server.maintenance._errors import TakenError
from starfish_server.maintenance._export_file import PART_BYTES, ExportWriter, OnProgress
from starfish_server.maintenance._sqlite_copies import publish_copy
from starfish_server.maintenance._store_place import StorePlace, require_new_file
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.object_store import Entry, ObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore

__all__ = ("export_store",)

_PAGE = 500
_CHUNKS = "~append/"
"""Parts of append-only documents; the other records of the server's own belong to the store."""


async def export_store(place: StorePlace, target: Path, on_progress: OnProgress) -> int:
    """Write every document into a new file, while the store is in use.

    A SQLite store is exported as it is at one moment; in a folder each document is.

    Args:
        place: of the store.
        target: a file that does not exist.
        on_progress: told as documents are written.

    Returns:
        How many values were written.

    Raises:
        MissingError: the store or the target's folder is not there.
        TakenError: the target exists.
        StoreError: the store does not answer.
        DiskError: the file system refuses.
    """
    place.require()
    require_new_file(target)
    with new_file(target.parent) as file:
        writer = ExportWriter(file)
        async with _at_one_moment(place, target.parent) as store:
            await _write_all(store, writer, on_progress)
        writer.end()
        await asyncio.to_thread(file.publish, target.name, replace=False)
    return writer.documents


@asynccontextmanager
async def _at_one_moment(place: StorePlace, work: Path) -> AsyncGenerator[ObjectStore]:
    if place.kind != "sqlite":
        store = place.open()
        try:
            yield as_object_store(store)
        finally:
            await store.close()
        return
    with tempfile.TemporaryDirectory(prefix=".export-", dir=work) as folder:
        copy = Path(folder) / "documents.sqlite"
        await asyncio.to_thread(publish_copy, place.path, copy, replace=False)
        copied = SqliteObjectStore(copy)
        try:
            yield copied
        finally:
            await copied.close()


async def _write_all(store: ObjectStore, writer: ExportWriter, on_progress: OnProgress) -> None:
    after: str | None = None
    while entries := await store.scan("", after=after, limit=_PAGE):
        for entry in entries:
            if not is_own_record(entry.key) or entry.key.startswith(_CHUNKS):
                await _write(store, entry, writer)
        on_progress(writer.documents, None)
        after = entries[-1].key


async def _write(store: ObjectStore, entry: Entry, writer: ExportWriter) -> None:
    key = entry.key
    if entry.metadata.size > PART_BYTES:
        await _write_in_parts(store, key, writer)
        return
    found = await store.get(key)
    if found is None:  # removed since it was listed
        return
    metadata = found.metadata
    head = _head(
        key, metadata.content_type, metadata.hash, metadata.written_at, metadata.expires_at
    )
    writer.value({**head, "size": len(found.body)}, found.body)


async def _write_in_parts(store: ObjectStore, key: str, writer: ExportWriter) -> None:
    first = await store.read_range(key, 0, PART_BYTES - 1)
    if first is None:
        return
    metadata = first.metadata
    head = _head(
        key, metadata.content_type, metadata.hash, metadata.written_at, metadata.expires_at
    )
    writer.begin({**head, "size": metadata.size}, metadata.size)
    for start in range(0, metadata.size, PART_BYTES):
        piece = await store.read_range(key, start, start + PART_BYTES - 1)
        if piece is None or piece.metadata.etag != metadata.etag:
            raise TakenError(f"{key!r} was written while it was exported; export again")
        writer.part(piece.body)


def _head(
    key: str, content_type: str, hash_: str | None, written_at: int, expires_at: int | None
) -> dict[str, Any]:
    return {
        "key": key,
        "contentType": content_type,
        "hash": hash_,
        "writtenAt": written_at,
        "expiresAt": expires_at,
    }

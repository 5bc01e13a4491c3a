"""Make a new store of an export, or of a folder of the public filesystem store.

Rule: the store is made beside its place and gets its name when it is complete.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
)
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from starfish_disk.durable import sync_folder
from starfish_disk.errors import os_errors_translated
from starfish_protocol.clock import SystemClock
from starfish_server.config.schema import SyncConfig
from starfish_server.documents._append_log import AppendLog
from starfish_server.documents._document_text import prepare_document
from starfish_server.documents._types import AuthorProof
from starfish_server.errors import InvalidKeyError
from starfish_server.maintenance._documents import CollectionOf, is_own_record, version_of
from starfish_server.maintenance._errors import DamagedSourceError, MissingError
from starfish_server.maintenance._export_file import ExportedValue, ExportReader, OnProgress
from starfish_server.maintenance._public_folder import PublicAppendLog, PublicFolder
from starfish_server.maintenance._sqlite_copies import held, publish_copy
from starfish_server.maintenance._store_place import StorePlace
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.base import StoreContext
from starfish_server.storage.changes import ChangeRecord
from starfish_server.storage.object_store import ObjectStore
from starfish_server.storage.values import Metadata, Stored, Value

__all__ = ("import_store",)

_LARGE_BYTES = 8 * 1024 * 1024


async def import_store(
    source: Path, place: StorePlace, config: SyncConfig, on_progress: OnProgress
) -> int:
    """Make a new store of everything in an export file, or in a folder of documents.

    Each document of a collection gets a line in the change log, so that followers and projections
    see it; the log is a new one.

    Args:
        source: a file that `export_store` wrote, or a folder of the public filesystem store.
        place: of the new store.
        config: names the collections that the documents belong to.
        on_progress: told as values are written.

    Returns:
        How many values were taken in.

    Raises:
        MissingError: there is nothing at ``source``.
        TakenError: a store is there already.
        DamagedSourceError: something in the source cannot be taken in; nothing was.
        StoreError: the store does not answer.
        DiskError: the file system refuses.
    """
    take = _taker(source)
    collections = CollectionOf(config)
    with held(place.data), _work_folder(place.data) as work:
        place.require_absent()
        made = StorePlace(place.kind, work)
        store = made.open()
        try:
            opened = as_object_store(store)
            await opened.ping()
            count = await take(source, opened, collections, on_progress)
        except InvalidKeyError as error:
            raise DamagedSourceError(str(source), str(error)) from error
        finally:
            await store.close()
        await asyncio.to_thread(_publish, made, place)
    return count


def _taker(
    source: Path,
) -> Callable[[Path, ObjectStore, CollectionOf, OnProgress], Awaitable[int]]:
    if not source.exists():
        raise MissingError(f"{source}: there is not a file or folder here")
    return _take_folder if source.is_dir() else _take_export


async def _take_export(
    source: Path, store: ObjectStore, collections: CollectionOf, on_progress: OnProgress
) -> int:
    reader = await asyncio.to_thread(ExportReader, source)
    done = 0
    for exported in reader.values():
        if exported.size > _LARGE_BYTES and collections.record(exported.key, "", 0) is not None:
            await _take_large(exported, store, collections)
        else:
            body = b"".join(exported.pieces)
            if len(body) != exported.size:
                raise DamagedSourceError(
                    str(source), f"{exported.key!r} has {len(body)} of {exported.size} bytes"
                )
            await _take(_stored(exported, body), exported.key, store, collections)
        done += 1
        on_progress(done, reader.documents)
    return done


async def _take_large(
    exported: ExportedValue, store: ObjectStore, collections: CollectionOf
) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        for piece in exported.pieces:
            yield piece

    record = collections.record(exported.key, exported.hash or "", exported.written_at)
    if record is None:
        raise DamagedSourceError(exported.key, "it belongs to no collection")

    def change(hash_: str, _size: int) -> ChangeRecord:
        return replace(record, hash=hash_)

    value = Value(
        b"",
        exported.content_type,
        hash=exported.hash,
        written_at=exported.written_at or None,
        expires_at=exported.expires_at,
    )
    chunks: AsyncIterator[bytes] = pieces()
    await store.write_stream(exported.key, chunks, value, change=change)


async def _take(found: Stored, key: str, store: ObjectStore, collections: CollectionOf) -> None:
    metadata, change = found.metadata, None
    hash_, written_at = metadata.hash, metadata.written_at
    if not is_own_record(key):
        hash_, written_at = version_of(key, found)
        change = collections.record(key, hash_, written_at)
    value = Value(
        found.body,
        metadata.content_type,
        hash=hash_,
        written_at=written_at or None,
        expires_at=metadata.expires_at,
    )
    await store.write(key, value, change=change)


async def _take_folder(
    source: Path, store: ObjectStore, collections: CollectionOf, on_progress: OnProgress
) -> int:
    folder = PublicFolder(source, collections.is_append_only)
    done = 0
    for item in folder.items():
        if isinstance(item, PublicAppendLog):
            await _take_elements(item, store, collections)
        else:
            key, found = item
            await _take(found, key, store, collections)
        done += 1
        on_progress(done, None)
    return done


async def _take_elements(
    document: PublicAppendLog, store: ObjectStore, collections: CollectionOf
) -> None:
    log = AppendLog(store, SystemClock())
    record = collections.record(document.key, "", 0)
    context = None
    if record is not None:
        context = StoreContext(record.collection, record.params, None, (), "push", record.namespace)
    for element in document.elements:
        author = None
        if element.pubkey is not None and element.signature is not None:
            author = AuthorProof(element.pubkey, element.signature)
        await log.append_prepared(
            document.key,
            prepare_document(element.data),
            element.ts,
            author,
            chunk_size=None,
            max_items=None,
            ttl_ms=None,
            context=context,
        )


def _stored(exported: ExportedValue, body: bytes) -> Stored:
    return Stored(
        body,
        Metadata(
            etag="",
            size=len(body),
            content_type=exported.content_type,
            hash=exported.hash,
            written_at=exported.written_at,
            expires_at=exported.expires_at,
            write_id=0,
            generation=0,
        ),
    )


@contextmanager
def _work_folder(data: Path) -> Generator[Path]:
    """A folder for the store in the making; those of killed imports are removed."""
    for left in _left_over(data):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=data) as work:
        yield Path(work)


def _left_over(data: Path) -> Iterator[Path]:
    return data.glob(".import-*")


def _publish(made: StorePlace, place: StorePlace) -> None:
    if place.kind == "sqlite":
        publish_copy(made.path, place.path, replace=False)
        return
    with os_errors_translated(place.path):
        made.path.rename(place.path)  # an empty folder is replaced, any other one is refused
    sync_folder(place.data)

"""The documents as they are, at the beginning of an event stream.

Rule: a version that is told as a document is not told again as a change, and every other one is told. Documents are read while others write, so each change behind the position at which the snapshot
began is compared with what the snapshot read of that document.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starfish_server.documents._append_text import Head
from starfish_server.documents._beside_the_loop import beside_the_loop
from starfish_server.documents._document_text import Snapshot as DocumentText
from starfish_server.documents._errors import DamagedDocumentError
from starfish_server.requests._request_context import RequestContext
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.storage.base import StoreContext
from starfish_server.storage.changes import Change, ChangeLog
from starfish_server.storage.object_store import Entry
from starfish_server.storage.values import Position

__all__ = ("Snapshot",)

_LOG = logging.getLogger(__name__)
_PAGE = 256
_CHANGES = 1024
_RECENT_MS = 60_000
"""Versions written so shortly before may be in the store and not yet in the log, where many commit at once."""


class Snapshot:
    """The documents of some collections that a caller may pull.

    Args:
        request: of the caller.
        wanted: the collections, by name.
        log: of the store.
        position: the end of the log, asked for before.
    """

    def __init__(
        self,
        request: RequestContext,
        wanted: Mapping[str, ServedCollection],
        log: ChangeLog,
        position: Position,
    ) -> None:
        self._request = request
        self._wanted = wanted
        self._log = log
        self._position = position
        self._changed: set[str] = set()
        self._generations: dict[str, int] = {}
        self._recent = request.services.clock.now_ms() - _RECENT_MS
        self.count = 0
        """Documents told so far."""

    def holds(self, change: Change) -> bool:
        """Whether a change made a version that the snapshot has told, or one before it."""
        told = self._generations.get(change.key)
        return told is not None and 0 < change.generation <= told

    async def pages(self) -> AsyncGenerator[list[dict[str, Any]]]:
        """The documents, some at a time.

        Raises:
            PositionLostError: the log was replaced meanwhile.
            StoreUnavailableError: the store does not answer.
        """
        for collection in self._wanted.values():
            async for entries in self._entries(collection):
                await self._note(entries)
                shown: list[dict[str, Any]] = []
                for entry in entries:
                    told = await self._told(collection, entry)
                    if told is not None:
                        shown.append(told)
                self.count += len(shown)
                yield shown

    async def _entries(self, collection: ServedCollection) -> AsyncGenerator[list[Entry]]:
        store = self._request.services.store
        template = collection.template
        if not template.parameters:
            key = collection.store_key(template.text)
            metadata = await store.stat(key)
            yield [] if metadata is None else [Entry(key, metadata)]
            return
        prefix = collection.store_key(template.text[: template.text.find("{")])
        after: str | None = None
        while True:
            entries = list(await store.scan(prefix, after=after, limit=_PAGE))
            yield entries
            if len(entries) < _PAGE:
                return
            after = entries[-1].key

    async def _note(self, entries: list[Entry]) -> None:
        """Remember the version of each document that may be told again as a change."""
        is_end = False
        while not is_end:
            page = await self._log.read(self._position, _CHANGES)
            self._changed.update(change.key for change in page.changes)
            self._position, is_end = page.next, page.is_end
        for entry in entries:
            if entry.key in self._changed or entry.metadata.written_at >= self._recent:
                self._generations[entry.key] = entry.metadata.generation

    async def _told(self, collection: ServedCollection, entry: Entry) -> dict[str, Any] | None:
        request = self._request
        path = entry.key[len(collection.store_key("")) :]
        params = collection.template.match(path)
        context = None if params is None else await request.as_reader(collection, path, params)
        version = None if context is None else await self._version(collection, entry, context)
        if context is None or version is None:
            self._generations.pop(entry.key, None)
            return None
        hash_, timestamp = version
        names = await request.services.views.names(collection, entry.key, context)
        shown = {
            "collection": collection.name,
            "key": path,
            "hash": names.of(hash_, timestamp),
            "timestamp": timestamp,
            "snapshot": True,
        }
        if collection.namespace is not None:
            shown["namespace"] = collection.namespace
        return shown

    async def _version(
        self, collection: ServedCollection, entry: Entry, context: StoreContext
    ) -> tuple[str, int] | None:
        """Hash and time of a document, ``None`` when it reads as never written or cannot be read."""
        ttl_ms, metadata = collection.config.ttl_ms, entry.metadata
        hash_, timestamp = metadata.hash, metadata.written_at
        if hash_ is None or not timestamp:  # an older file, or a store of the first contract
            found = await self._request.services.store.get(entry.key, context=context)
            if found is None:
                return None
            try:
                if collection.config.is_binary:
                    hash_ = await beside_the_loop(len(found.body), _sha256, found.body)
                    timestamp = found.metadata.written_at
                else:
                    kind = DocumentText if collection.config.append_only is None else Head
                    parsed = kind.parse(entry.key, found.body)
                    hash_, timestamp = parsed.hash, parsed.ts
            except DamagedDocumentError as error:
                _LOG.error("a snapshot leaves out a damaged document: %s", error)
                return None
        now = self._request.services.clock.now_ms()
        if ttl_ms is not None and timestamp and timestamp + ttl_ms <= now:
            return None
        return hash_, timestamp


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()

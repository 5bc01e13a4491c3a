"""Lists in a store: short ones as one document, long ones in pieces.

Rule: the index decides. A reader that misses a chunk reads the index again: another version has its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from starfish_projection._list_document import ListDocument, NotAListError
from starfish_projection._segments import (
    ListIndex,
    Pieces,
    chunk_key,
    is_index,
    whole_list,
    written_at,
)
from starfish_projection._store import ListStore, TargetStore

__all__ = ("ListStorage", "StoredList")

_TRIES = 5
"""Readings of an index whose chunks are gone: each takes a write in between."""
_READS_AT_ONCE = 32
_YOUNG_MS = 3_600_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredList:
    """A list as some version in the store has it."""

    document: ListDocument
    etag: str


class ListStorage:
    """Reads and conditionally writes lists.

    Args:
        store: where they are.
        pieces_above_bytes: length of a list above which it is kept in pieces; ``None`` for never.
    """

    def __init__(self, store: ListStore, *, pieces_above_bytes: int | None) -> None:
        self._store = store
        self._targets = TargetStore(store)
        self._bound = pieces_above_bytes

    async def read(self, target: str) -> StoredList | None:
        """The list under a key, ``None`` when there is none.

        Raises:
            NotAListError: the key holds something else.
        """
        for _ in range(_TRIES):
            found = await self._targets.read(target)
            if found is None:
                return None
            text, etag = found
            if not is_index(text):
                return StoredList(ListDocument.parse(text), etag)
            index = ListIndex.parse(text)
            if index is None:
                raise NotAListError("its data has not exactly the field items")
            chunks = await self._chunks(target, index)
            if chunks is not None:
                document = ListDocument.parse(whole_list(index, chunks))
                try:
                    document.pieces = Pieces.of(index, document.ids(), document.length_of)
                except ValueError as error:
                    raise NotAListError(str(error)) from error
                return StoredList(document, etag)
        raise NotAListError("a part of it is missing")

    async def etag(self, target: str) -> str | None:
        """Of the version that is stored."""
        found = await self._targets.read(target)
        return None if found is None else found[1]

    async def write(
        self, target: str, document: ListDocument, ts: int, expected_etag: str | None
    ) -> str | None:
        """Store a list if the expected version is still there; the new etag, or ``None``.

        After a refusal the document must not be used again.
        """
        pieces = document.pieces
        is_long = self._bound is not None and document.length > self._bound
        if pieces is not None and self._bound is not None:
            is_long = (
                document.length > self._bound // 2
            )  # so that it does not change its form each time
        if not is_long:
            etag = await self._targets.write(target, document.render(ts), expected_etag)
            if etag is not None and pieces is not None:
                await self._delete(target, pieces.names())
                document.pieces = None
            return etag
        if pieces is None:
            pieces = document.pieces = Pieces(tail=dict.fromkeys(document.ids()))
        plan = pieces.plan(document.text_of, ts, document.digest())
        for name, text in plan.chunks:
            await self._store.put(chunk_key(target, name), text, content_type="application/json")
        etag = await self._targets.write(target, plan.text, expected_etag)
        unused = [name for name, _ in plan.chunks] if etag is None else plan.dropped
        await self._delete(target, unused)
        return etag

    async def whole(self, target: str, text: str) -> str:
        """The list document that a stored text stands for; any other text comes back as it is."""
        for _ in range(_TRIES):
            index = ListIndex.parse(text) if is_index(text) else None
            if index is None:
                return text
            chunks = await self._chunks(target, index)
            if chunks is not None:
                return whole_list(index, chunks)
            found = await self._targets.read(target)
            if found is None:
                return text
            text = found[0]
        return text

    async def changes(self, target: str, since: str) -> dict[str, Any] | None:
        """What changed since a list had a hash; ``None`` where only the whole list tells."""
        found = await self._targets.read(target)
        index = ListIndex.parse(found[0]) if found is not None and is_index(found[0]) else None
        changed = None if index is None else index.changes_since(since)
        if index is None or changed is None:
            return None
        put, removed = changed
        items = _chosen(f"[{index.tail}]", put)
        missing = put - {item["id"] for item in items}
        for name, _ in reversed(index.chunks):
            if not missing:
                break
            chunk = await self._store.get_string(chunk_key(target, name))
            if chunk is None:
                return None
            more = _chosen(chunk, missing)
            missing -= {item["id"] for item in more}
            items = more + items
        return {"hash": index.hash, "removed": removed, "items": items}

    async def sweep(self, target: str, now_ms: int) -> int:
        """Delete chunks that no index names because their writer died; how many there were.

        Young ones stay: the index that names them may be on its way.
        """
        found = await self._targets.read(target)
        index = ListIndex.parse(found[0]) if found is not None and is_index(found[0]) else None
        named = set[str]() if index is None else {name for name, _ in index.chunks}
        folder = chunk_key(target, "")
        unused: list[str] = []
        for key in await self._store.list_keys(folder):
            name = key[len(folder) :]
            with contextlib.suppress(ValueError):  # of a list whose key begins as this one's
                if name not in named and written_at(name) + _YOUNG_MS < now_ms:
                    unused.append(name)
        await self._delete(target, unused)
        return len(unused)

    async def _chunks(self, target: str, index: ListIndex) -> list[str] | None:
        """The texts of all chunks; ``None`` when one is gone."""
        texts: list[str] = []
        for start in range(0, len(index.chunks), _READS_AT_ONCE):
            part = index.chunks[start : start + _READS_AT_ONCE]
            keys = [chunk_key(target, name) for name, _ in part]
            for text in await asyncio.gather(*map(self._store.get_string, keys)):
                if text is None:
                    return None
                texts.append(text)
        return texts

    async def _delete(self, target: str, names: Sequence[str]) -> None:
        delete = cast(
            "Callable[[str], Awaitable[object]] | None", getattr(self._store, "delete", None)
        )
        if delete is None:
            return
        for name in names:
            try:
                await delete(chunk_key(target, name))
            except Exception as error:  # noqa: BLE001 - it only takes space
                logger.info(
                    "a chunk of list %r that nobody needs was not deleted: %r", target, error
                )


def _chosen(chunk: str, ids: set[str]) -> list[dict[str, Any]]:
    return [item for item in json.loads(chunk) if item["id"] in ids]

"""The raw objects of a git repository, and their bytes as blobs of ours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dulwich.objects import ObjectID
from dulwich.repo import Repo

from starfish_mpack_wire._model.chunk_lists import ChunkList
from starfish_mpack_wire._model.object_ids import blob_id
from starfish_mpack_wire._pack.cutting import cut, is_large
from starfish_mpack_wire.git._trees import TreeLine, is_odd, parse_tree

__all__ = ("GitObjects",)

TREES_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class _GitTree:
    lines: list[TreeLine]
    odd: bool


class GitObjects:
    """Raw objects of git, and their bytes as blobs of ours."""

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        self._trees: dict[bytes, _GitTree] = {}
        self._blob_ids: dict[bytes, str] = {}
        self._git_ids: dict[str, bytes] = {}
        self._given: dict[str, bytes] = {}
        self._lists: dict[str, ChunkList] = {}
        self._chunks: dict[str, tuple[str, int, int]] = {}
        self._last: tuple[str, bytes] = ("", b"")

    def raw(self, sha: str) -> tuple[int, bytes]:
        """Return type and bytes."""
        found = self._repo.object_store.get_raw(ObjectID(sha.encode()))
        return found[0], bytes(found[1])

    def tree(self, sha: bytes) -> _GitTree:
        """Return a tree, taken apart."""
        known = self._trees.get(sha)
        if known is None:
            raw = self.raw(sha.hex())[1]
            lines = parse_tree(raw)
            known = _GitTree(lines, is_odd(raw, lines))
            if len(self._trees) >= TREES_KEPT:
                self._trees.clear()
            self._trees[sha] = known
        return known

    def blob_id(self, sha: bytes) -> str:
        """Return the blob id of the bytes of an object."""
        known = self._blob_ids.get(sha)
        if known is None:
            content = self.raw(sha.hex())[1]
            known = self._blob_ids[sha] = blob_id(content)
            self._git_ids[known] = sha
            if is_large(len(content)):
                self._cut(known, content)
        return known

    def _cut(self, object_id: str, content: bytes) -> None:
        self._lists[object_id], _ = chunks = cut(content)
        start = 0
        for chunk in chunks[0]:
            self._chunks.setdefault(chunk.object_id, (object_id, start, chunk.length))
            start += chunk.length

    def give(self, content: bytes) -> str:
        """Have bytes of our own among the blobs."""
        object_id = blob_id(content)
        self._given[object_id] = content
        if is_large(len(content)):
            self._cut(object_id, content)
        return object_id

    def chunk_lists(self, object_ids: Collection[str], /) -> dict[str, ChunkList]:
        """Return the chunks of large blobs; see `BlobSource`."""
        return {each: self._lists[each] for each in object_ids if each in self._lists}

    def blob(self, object_id: str) -> bytes:
        """Return the bytes of a blob; see `BlobSource`."""
        place = self._chunks.get(object_id)
        if place is None or object_id in self._git_ids or object_id in self._given:
            return self._whole(object_id)
        large, start, length = place
        if self._last[0] != large:
            # Chunks come in the order of their blob, so that it is read once.
            self._last = (large, self._whole(large))
        return self._last[1][start : start + length]

    def _whole(self, object_id: str) -> bytes:
        given = self._given.get(object_id)
        return given if given is not None else self.raw(self._git_ids[object_id].hex())[1]

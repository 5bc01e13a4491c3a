"""A long list in pieces: an index document, and chunks that hold most of the entries; no I/O.

Rule 1: the index is an ordinary document whose hash is that of the whole list; its data names the chunks
and holds the last entries itself. Rule 2: a chunk is written once, under a name that was never used, before
the index that names it. Rule 3: a chunk lies under the key of its list, so that no document can name those of
another list.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

__all__ = (
    "INDEX_HEAD",
    "ListIndex",
    "Pieces",
    "Plan",
    "chunk_key",
    "is_index",
    "whole_list",
    "written_at",
)

INDEX_HEAD = '{"v":1,"data":{"segments":'
_LOG = ',"log":'
_TAIL = ',"tail":'
_END = re.compile(r'\},"ts":(-?[0-9]+),"hash":"([0-9a-f]{64})"\}')
_NAME = re.compile(r"[0-9a-f]{32}")
_CHUNK_BYTES = 64 << 10
"""A chunk is not made longer: it is written again when one of its entries changes."""
_TAIL_BYTES = 8 << 10
"""Entries that the index holds itself: it is written with each append."""
_MOST_RECORDS = 64
_MOST_IDS = 256
"""Changes that ``since`` may go back: a longer log makes each append longer."""

_scan = json.JSONDecoder().raw_decode


def chunk_key(target: str, name: str) -> str:
    """Where a chunk of a list is stored; no client gets there."""
    return f"~projection/segments/{target}/{name}"


def written_at(name: str) -> int:
    """When a chunk was written, milliseconds since the epoch.

    Raises:
        ValueError: it is not the name of a chunk.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not the name of a chunk")
    return int(name[:12], 16)


def is_index(text: str) -> bool:
    """Whether a stored text looks like the index of a list in pieces."""
    return text.startswith(INDEX_HEAD)


@dataclass(frozen=True, slots=True)
class ListIndex:
    """An index document as it is stored."""

    chunks: Sequence[tuple[str, int]]
    """Name and number of entries of each, in list order."""
    log: Sequence[tuple[str, Sequence[str], Sequence[str]]]
    """Of each of the last writes: the hash before it, the ids that it put, and those that it removed."""
    tail: str
    """Canonical text of the last entries, comma-separated."""
    ts: int
    hash: str

    @classmethod
    def parse(cls, text: str) -> ListIndex | None:
        """Read a stored text; ``None`` when it is something else."""
        try:
            chunks, at = _scan(text, len(INDEX_HEAD))
            log, at = _scan(text, _after(text, at, _LOG))
            begin = _after(text, at, _TAIL)
            _, at = _scan(text, begin)
            end = _END.fullmatch(text, at)
            if end is None or not all(_is_chunk(each) for each in chunks):
                return None
            return cls(
                [(str(name), int(count)) for name, count in chunks],
                [(str(before), list(put), list(gone)) for before, put, gone in log],
                text[begin + 1 : at - 1],
                int(end[1]),
                end[2],
            )
        except (ValueError, TypeError, RecursionError):
            return None

    def changes_since(self, hash_: str) -> tuple[set[str], list[str]] | None:
        """Ids that were put and removed since the list had a hash; ``None`` when nobody knows."""
        if hash_ == self.hash:
            return set(), []
        begin = next((i for i, (before, _, _) in enumerate(self.log) if before == hash_), None)
        if begin is None:
            return None
        put: set[str] = set()
        gone: dict[str, None] = {}
        for _, more, removed in self.log[begin:]:
            gone.update(dict.fromkeys(removed))
            put.difference_update(removed)
            put.update(more)
        return put, list(gone)


def whole_list(index: ListIndex, chunks: Iterable[str]) -> str:
    """The document as a list that is not in pieces would be stored."""
    parts = [chunk[1:-1] for chunk in chunks]
    if index.tail:
        parts.append(index.tail)
    joined = ",".join(parts)
    return f'{{"v":1,"data":{{"items":[{joined}]}},"ts":{index.ts},"hash":"{index.hash}"}}'


@dataclass(slots=True, eq=False)
class _Segment:
    ids: dict[str, None]
    name: str | None = None
    """``None`` when it must be written."""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What storing a list takes."""

    text: str
    """Of the index."""
    chunks: Sequence[tuple[str, str]] = ()
    """Names and texts of new chunks, to be written before it."""
    dropped: Sequence[str] = ()
    """Names of those that the index names no more."""


@dataclass(slots=True)
class Pieces:
    """Which entries of a list are in which chunk, and what changed since it was stored."""

    segments: list[_Segment] = field(default_factory=list[_Segment])
    tail: dict[str, None] = field(default_factory=dict[str, None])
    log: list[tuple[str, list[str], list[str]]] = field(
        default_factory=list[tuple[str, list[str], list[str]]]
    )
    stored_hash: str | None = None
    _place: dict[str, _Segment] = field(default_factory=dict[str, _Segment])
    _dropped: list[str] = field(default_factory=list[str])
    _put: dict[str, None] = field(default_factory=dict[str, None])
    _gone: dict[str, None] = field(default_factory=dict[str, None])

    @classmethod
    def of(cls, index: ListIndex, ids: Sequence[str], size_of: Callable[[str], int]) -> Pieces:
        """The pieces that an index tells of.

        Raises:
            ValueError: it does not fit the list's entries.
        """
        pieces = cls(stored_hash=index.hash)
        pieces.log = [(before, list(put), list(gone)) for before, put, gone in index.log]
        begin = 0
        for name, count in index.chunks:
            members = dict.fromkeys(ids[begin : begin + count])
            if len(members) != count:
                raise ValueError("its chunks hold another number of entries")
            segment = _Segment(members, name, sum(map(size_of, members)))
            pieces.segments.append(segment)
            pieces._place.update(dict.fromkeys(members, segment))
            begin += count
        pieces.tail = dict.fromkeys(ids[begin:])
        return pieces

    def put(self, entry_id: str) -> None:
        """An entry was appended, or replaced where it stands."""
        self._put[entry_id] = None
        segment = self._place.get(entry_id)
        if segment is None:
            self.tail[entry_id] = None
        else:
            self._must_be_written(segment)

    def removed(self, entry_id: str) -> None:
        """An entry was taken out."""
        self._put.pop(entry_id, None)
        self._gone[entry_id] = None
        self.tail.pop(entry_id, None)
        segment = self._place.pop(entry_id, None)
        if segment is not None:
            del segment.ids[entry_id]
            self._must_be_written(segment)

    def plan(self, fragment: Callable[[str], str], ts: int, hash_: str) -> Plan:
        """Lay the list out anew: as little as possible is written."""
        self._seal_tail(fragment)
        self.segments = [segment for segment in self.segments if segment.ids]
        chunks: list[tuple[str, str]] = []
        for segment in self.segments:
            if segment.name is None:
                segment.name = f"{ts:012x}{secrets.token_hex(10)}"
                text = "[" + ",".join(map(fragment, segment.ids)) + "]"
                segment.size = len(text)
                chunks.append((segment.name, text))
        self._write_log()
        named = ",".join(f'["{s.name}",{len(s.ids)}]' for s in self.segments)
        log = json.dumps(self.log, separators=(",", ":"))
        tail = ",".join(map(fragment, self.tail))
        text = f'{INDEX_HEAD}[{named}]{_LOG}{log}{_TAIL}[{tail}]}},"ts":{ts},"hash":"{hash_}"}}'
        dropped, self._dropped = self._dropped, []
        self.stored_hash = hash_
        return Plan(text, chunks, dropped)

    def names(self) -> list[str]:
        """Of all chunks that are stored, those to be dropped among them."""
        return [s.name for s in self.segments if s.name is not None] + self._dropped

    def _must_be_written(self, segment: _Segment) -> None:
        if segment.name is not None:
            self._dropped.append(segment.name)
            segment.name = None

    def _seal_tail(self, fragment: Callable[[str], str]) -> None:
        if sum(len(fragment(entry_id)) for entry_id in self.tail) <= _TAIL_BYTES:
            return
        for entry_id in self.tail:
            size = len(fragment(entry_id)) + 1
            if not self.segments or self.segments[-1].size + size > _CHUNK_BYTES:
                self.segments.append(_Segment({}))
            segment = self.segments[-1]
            self._must_be_written(segment)
            segment.ids[entry_id] = None
            segment.size += size
            self._place[entry_id] = segment
        self.tail = {}

    def _write_log(self) -> None:
        put, gone = list(self._put), list(self._gone)
        self._put, self._gone = {}, {}
        if self.stored_hash is None or len(put) + len(gone) > _MOST_IDS:
            self.log = []
            return
        self.log.append((self.stored_hash, put, gone))
        while len(self.log) > _MOST_RECORDS or _ids_in(self.log) > _MOST_IDS:
            del self.log[0]


def _ids_in(log: Sequence[tuple[str, list[str], list[str]]]) -> int:
    return sum(len(put) + len(gone) for _, put, gone in log)


def _is_chunk(each: object) -> bool:
    if not isinstance(each, list):
        return False
    parts = cast("list[object]", each)
    if len(parts) != 2 or not isinstance(parts[1], int):
        return False
    return isinstance(parts[0], str) and _NAME.fullmatch(parts[0]) is not None


def _after(text: str, at: int, word: str) -> int:
    if not text.startswith(word, at):
        raise ValueError(f"{word} is missing")
    return at + len(word)

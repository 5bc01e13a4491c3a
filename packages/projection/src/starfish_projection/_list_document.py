"""The list document: ``{"items": [{"id": …, "value": …}, …]}`` as a server stores documents.

Rule 1: an entry is kept as its canonical text and never parsed again. Rule 2: the rendered text
is what `starfish_protocol.hash` would give for the same data, byte for byte. Rule 3: text that
does not have exactly this shape is somebody else's document and raises.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from typing import Any, cast

from starfish_projection._segments import Pieces
from starfish_protocol.hash import stable_stringify

__all__ = ("ListDocument", "NotAListError", "entry_fragment")

_DATA_HEAD = '{"items":['
_DATA_TAIL = "]}"
_DOCUMENT_HEAD = '{"v":1,"data":' + _DATA_HEAD

_DOCUMENT_TAIL = re.compile(r'\]\},"ts":-?[0-9]+,"hash":"[0-9a-f]{64}"\}')

_MAX_PARTS = 64
"""Pieces of text that may wait to be joined: a longer wait makes each rendering slower, a shorter
one copies the whole text more often."""
_ENTRY_OVERHEAD_BYTES = 200
"""What an entry costs beside its text: its id and its place in the dictionary."""


class NotAListError(ValueError):
    """A stored text is not a list document; the message says what it lacks."""


def entry_fragment(entry_id: str, value: Mapping[str, Any]) -> str:
    """The canonical text of one entry.

    Raises:
        TypeError: ``value`` holds something that JSON does not have; the message names its path.
        ValueError: ``value`` is nested too deep to be hashed as a part of the list.

    Examples:
        >>> entry_fragment("n1", {"b": 1.0, "a": None})
        '{"id":"n1","value":{"a":null,"b":1}}'
    """
    # Wrapped as in the list, so that the depth limit counts what the whole document has.
    wrapped = stable_stringify({"items": [{"id": entry_id, "value": dict(value)}]})
    return wrapped[len(_DATA_HEAD) : -len(_DATA_TAIL)]


class ListDocument:
    """An ordered set of entries that renders itself at the cost of what changed.

    Examples:
        >>> document = ListDocument()
        >>> document.put("n1", entry_fragment("n1", {"title": "Milk"}))
        True
        >>> document.render(0)[:58]
        '{"v":1,"data":{"items":[{"id":"n1","value":{"title":"Milk"'
        >>> ListDocument.parse(document.render(0)).ids()
        ('n1',)
    """

    __slots__ = (
        "_fragments",
        "_hasher",
        "_joined_bytes",
        "_parts",
        "_size_bytes",
        "length",
        "pieces",
    )

    def __init__(self) -> None:
        self.pieces: Pieces | None = None
        """Where it is stored in pieces: which entry is in which."""
        self.length = 0
        """Letters of the text of its entries."""
        self._fragments: dict[str, str] = {}
        self._size_bytes = 0
        # Both hold the entries up to now, comma-separated; None when an entry in the middle
        # changed and they must be made anew.
        self._parts: list[str] | None = []
        self._hasher = hashlib.sha256(_DATA_HEAD.encode())
        self._joined_bytes = 0

    @classmethod
    def parse(cls, text: str) -> ListDocument:
        """Read a stored document.

        Raises:
            NotAListError: it is anything else than a list document.
        """
        parsed = cls()
        for entry_id, fragment in _canonical_fragments(text) or _fragments(text):
            if entry_id in parsed._fragments:
                raise NotAListError("two entries have one id")
            parsed._add(entry_id, fragment)
        parsed._parts = None
        return parsed

    def __len__(self) -> int:
        return len(self._fragments)

    def __contains__(self, entry_id: object) -> bool:
        return entry_id in self._fragments

    @property
    def size_bytes(self) -> int:
        """About how much memory it holds."""
        return self._size_bytes + self._joined_bytes

    def ids(self) -> tuple[str, ...]:
        """Ids of the entries in list order."""
        return tuple(self._fragments)

    def fragment(self, entry_id: str) -> str | None:
        """The canonical text of an entry, ``None`` when it is not in the list."""
        return self._fragments.get(entry_id)

    def text_of(self, entry_id: str) -> str:
        """The canonical text of an entry that is in the list."""
        return self._fragments[entry_id]

    def length_of(self, entry_id: str) -> int:
        """Letters of the text of an entry that is in the list."""
        return len(self._fragments[entry_id])

    def put(self, entry_id: str, fragment: str) -> bool:
        """Append an entry, or replace it where it stands; tells whether that changed anything."""
        current = self._fragments.get(entry_id)
        if current == fragment:
            return False
        if current is not None:
            self._size_bytes += sys.getsizeof(fragment) - sys.getsizeof(current)
            self.length += len(fragment) - len(current)
            self._fragments[entry_id] = fragment
            self._parts = None
            if self.pieces is not None:
                self.pieces.put(entry_id)
            return True
        self._add(entry_id, fragment)
        if self.pieces is not None:
            self.pieces.put(entry_id)
        if self._parts is not None:
            self._append_part(fragment)
        return True

    def remove(self, entry_id: str) -> bool:
        """Drop an entry; tells whether it was there."""
        fragment = self._fragments.pop(entry_id, None)
        if fragment is None:
            return False
        self._size_bytes -= sys.getsizeof(fragment) + _ENTRY_OVERHEAD_BYTES
        self.length -= len(fragment)
        self._parts = None
        if self.pieces is not None:
            self.pieces.removed(entry_id)
        return True

    def render(self, timestamp_ms: int) -> str:
        """The document as it is stored, written at ``timestamp_ms`` since the epoch."""
        parts = self._joined_parts()
        tail = f'{_DATA_TAIL},"ts":{timestamp_ms},"hash":"{self.digest()}"}}'
        return "".join([_DOCUMENT_HEAD, *parts, tail])

    def digest(self) -> str:
        """The hash of the list."""
        self._joined_parts()
        hasher = self._hasher.copy()
        hasher.update(_DATA_TAIL.encode())
        return hasher.hexdigest()

    def _add(self, entry_id: str, fragment: str) -> None:
        self._fragments[entry_id] = fragment
        self._size_bytes += sys.getsizeof(fragment) + _ENTRY_OVERHEAD_BYTES
        self.length += len(fragment)

    def _append_part(self, fragment: str) -> None:
        parts = self._parts
        assert parts is not None  # noqa: S101 - the only caller has just looked
        part = f",{fragment}" if parts else fragment
        self._hasher.update(part.encode())
        self._joined_bytes += sys.getsizeof(part)
        parts.append(part)
        if len(parts) > _MAX_PARTS:
            parts[:] = ["".join(parts)]

    def _joined_parts(self) -> list[str]:
        if self._parts is None:
            joined = ",".join(self._fragments.values())
            self._hasher = hashlib.sha256(_DATA_HEAD.encode())
            self._hasher.update(joined.encode())
            self._parts = [joined] if joined else []
            self._joined_bytes = sys.getsizeof(joined)
        return self._parts


def _canonical_fragments(text: str) -> list[tuple[str, str]] | None:
    """Cut a text as `ListDocument.render` writes it; ``None`` when it is not one.

    Several times faster than `_fragments`: entries are sliced out of the text, and one comparison
    of the whole shows that every slice is canonical.
    """
    if not text.startswith(_DOCUMENT_HEAD):
        return None
    scan = json.JSONDecoder().raw_decode
    items: list[object] = []
    fragments: list[tuple[str, str]] = []
    position = len(_DOCUMENT_HEAD)
    try:
        while text.startswith("{", position):
            item, end = scan(text, position)
            items.append(item)
            fragments.append((_entry(item)[0], text[position:end]))
            if not text.startswith(",", end):
                position = end
                break
            position = end + 1
        if _DOCUMENT_TAIL.fullmatch(text, position) is None:
            return None
        canonical = stable_stringify({"items": items})
    except (ValueError, RecursionError):
        return None
    data_start = len(_DOCUMENT_HEAD) - len(_DATA_HEAD)
    return fragments if text.startswith(canonical, data_start) else None


def _fragments(text: str) -> list[tuple[str, str]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAListError("it is not JSON") from error
    try:
        return [
            (entry_id, entry_fragment(entry_id, value)) for entry_id, value in _entries(document)
        ]
    except NotAListError:
        raise
    except (TypeError, ValueError) as error:
        raise NotAListError("an entry has no canonical form") from error


def _entries(document: object) -> list[tuple[str, Mapping[str, Any]]]:
    if not isinstance(document, dict):
        raise NotAListError("it is not a JSON object")
    stored = cast("dict[str, object]", document)
    if stored.keys() != {"v", "data", "ts", "hash"} or stored["v"] != 1:
        raise NotAListError("it has not exactly the fields v (1), data, ts and hash")
    data = stored["data"]
    if not isinstance(data, dict) or cast("dict[str, object]", data).keys() != {"items"}:
        raise NotAListError("its data has not exactly the field items")
    items = cast("dict[str, object]", data)["items"]
    if not isinstance(items, list):
        raise NotAListError("its items are not an array")
    return [_entry(item) for item in cast("list[object]", items)]


def _entry(item: object) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(item, dict) or cast("dict[str, object]", item).keys() != {"id", "value"}:
        raise NotAListError("an entry has not exactly the fields id and value")
    entry = cast("dict[str, Any]", item)
    entry_id, value = entry["id"], entry["value"]
    if not isinstance(entry_id, str) or not isinstance(value, dict):
        raise NotAListError("an entry's id is not a text or its value not an object")
    return entry_id, cast("dict[str, Any]", value)

"""A folder that the filesystem store of the public protocol package keeps.

A key is the path of a file. Bytes have a file beside them that ends in ``.__meta__`` and names their
content type. An append-only document is one file with all of its elements, or a head beside a folder
that ends in ``__seg`` and holds them in files that are named by their first time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from starfish_server.maintenance._errors import DamagedSourceError
from starfish_server.storage.keys import is_legal_key
from starfish_server.storage.values import TEXT_CONTENT_TYPE, Metadata, Stored

__all__ = ("PublicAppendLog", "PublicElement", "PublicFolder")

_META, _TEMPORARY, _SEGMENTS = ".__meta__", ".tmp", "__seg"
_OWN_MARK = ".starfish"
_BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class PublicElement:
    """One element of an append-only document."""

    ts: int
    data: dict[str, Any]
    pubkey: str | None
    signature: str | None


@dataclass(frozen=True, slots=True)
class PublicAppendLog:
    """An append-only document."""

    key: str
    elements: Iterator[PublicElement]


class PublicFolder:
    """The documents in a folder; it is only read.

    Args:
        root: the folder.
        is_append_only: tells of a key whether its collection only grows.

    Raises:
        DamagedSourceError: the folder is one of this package's store.
    """

    def __init__(self, root: Path, is_append_only: Callable[[str], bool]) -> None:
        self._root = root
        self._is_append_only = is_append_only
        if (root / _OWN_MARK).exists():
            raise DamagedSourceError(
                str(root), "this is a folder of this server's own store; export it instead"
            )

    def items(self) -> Generator[tuple[str, Stored] | PublicAppendLog]:
        """Each document, in order of the keys.

        Raises:
            DamagedSourceError: a file cannot be a document; the message names it.
        """
        for path in self._files(self._root):
            key = path.relative_to(self._root).as_posix()
            if not is_legal_key(key):
                raise DamagedSourceError(str(path), "its path cannot be a key")
            body = path.read_bytes()
            if path.with_name(path.name + _META).exists():
                yield key, self._bytes(path, body)
            elif self._is_append_only(key):
                yield PublicAppendLog(key, self._elements(path, body))
            else:
                yield key, self._document(path, body)

    def _files(self, folder: Path) -> Generator[Path]:
        for entry in sorted(os.scandir(folder), key=lambda each: each.name):
            if entry.is_symlink():
                raise DamagedSourceError(entry.path, "a symbolic link is not followed")
            if entry.is_dir():
                if not entry.name.endswith(_SEGMENTS):
                    yield from self._files(Path(entry.path))
            elif not entry.name.endswith((_META, _TEMPORARY)):
                yield Path(entry.path)

    def _document(self, path: Path, body: bytes) -> Stored:
        stored = self._json_object(path, body)
        is_document = stored.get("v") == 1 and isinstance(stored.get("data"), dict)
        if not is_document or stored.get("seg") is True:
            kind = "an append-only document; the configuration must say so" if is_document else None
            raise DamagedSourceError(str(path), kind or "it is not a document of the protocol")
        return _stored(body, TEXT_CONTENT_TYPE, None, 0)

    def _bytes(self, path: Path, body: bytes) -> Stored:
        try:
            kind = json.loads(path.with_name(path.name + _META).read_bytes())["contentType"]
        except (ValueError, KeyError, TypeError):
            kind = _BYTES
        written_at = path.stat().st_mtime_ns // 1_000_000
        return _stored(body, str(kind), hashlib.sha256(body).hexdigest(), written_at)

    def _elements(self, path: Path, body: bytes) -> Iterator[PublicElement]:
        head = self._json_object(path, body)
        if head.get("seg") is True:
            folder = path.with_name(path.name + _SEGMENTS)
            for file in sorted(folder.iterdir()) if folder.is_dir() else ():
                if not file.name.endswith(_TEMPORARY):
                    yield from self._parsed(file, _json(file, file.read_bytes()))
            return
        data = head.get("data")
        lists: list[object] = [each for each in _values(data) if isinstance(each, list)]
        if len(lists) != 1:
            raise DamagedSourceError(str(path), "it is not an append-only document")
        yield from self._parsed(path, lists[0])

    def _parsed(self, path: Path, elements: object) -> Iterator[PublicElement]:
        if not isinstance(elements, list):
            raise DamagedSourceError(str(path), "it is not a list of elements")
        for number, each in enumerate(cast("list[object]", elements)):
            fields = cast("dict[str, Any]", each) if isinstance(each, dict) else {}
            ts, data = fields.get("ts"), fields.get("data")
            if type(ts) is not int or not isinstance(data, dict):
                raise DamagedSourceError(str(path), f"element {number} has no ts and data")
            pubkey, signature = fields.get("authorPubkey"), fields.get("authorSignature")
            yield PublicElement(ts, cast("dict[str, Any]", data), pubkey, signature)

    def _json_object(self, path: Path, body: bytes) -> dict[str, Any]:
        found = _json(path, body)
        if not isinstance(found, dict):
            raise DamagedSourceError(str(path), "it is not a JSON object")
        return cast("dict[str, Any]", found)


def _values(data: object) -> list[object]:
    return list(cast("dict[str, object]", data).values()) if isinstance(data, dict) else []


def _json(path: Path, body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DamagedSourceError(str(path), "it is not JSON") from error


def _stored(body: bytes, content_type: str, hash_: str | None, written_at: int) -> Stored:
    return Stored(
        body,
        Metadata(
            etag="",
            size=len(body),
            content_type=content_type,
            hash=hash_,
            written_at=written_at,
            expires_at=None,
            write_id=0,
            generation=0,
        ),
    )

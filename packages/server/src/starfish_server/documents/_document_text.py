"""The JSON text that a store keeps of a document.

Rule 1: `Snapshot.parse` takes apart what `encode_document` wrote without reading ``data``, which
may be large; a text of any other layout is read as JSON. Rule 2: any other text is never guessed
at and never overwritten: `DamagedDocumentError`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import orjson

from starfish_protocol.hash import stable_stringify
from starfish_protocol.merge import UNSAFE_KEYS, drop_unsafe_keys
from starfish_server.documents._errors import DamagedDocumentError
from starfish_server.documents._json_shapes import is_object
from starfish_server.documents._types import AuthorProof, StoredDocument

__all__ = ("PreparedDocument", "Snapshot", "author_fields", "encode_document", "prepare_document")

_HEAD = b'{"v":1,"data":'
_TAIL = re.compile(
    rb',"ts":(?P<ts>\d{1,16}),"hash":"(?P<hash>[0-9a-f]{64})"'
    rb'(?:,"authorPubkey":"(?P<pubkey>[0-9a-f]{64})","authorSignature":"(?P<signature>[\w+/=-]{0,128})")?\}',
)
_LONGEST_TAIL = 400
_HASH = re.compile(r"[0-9a-f]{64}")
# orjson escapes none of these letters, so each unsafe key is in its output as it is written here.
_UNSAFE_KEY = re.compile(b'"(?:' + "|".join(sorted(UNSAFE_KEYS)).encode() + b')":')


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document that is ready to be stored."""

    data: dict[str, Any]
    """Without `UNSAFE_KEYS`."""
    json: bytes
    """``data`` with its keys in the order in which they came."""
    canonical: bytes
    """``data`` as it is hashed."""
    hash: str


def prepare_document(data: dict[str, Any]) -> PreparedDocument:
    """Drop unsafe keys, encode and hash.

    Raises:
        TypeError: a value has no JSON form.
        ValueError: nesting deeper than `starfish_protocol.hash.MAX_DEPTH`.
    """
    encoded = orjson.dumps(data)
    if _UNSAFE_KEY.search(encoded):
        data = drop_unsafe_keys(data)
        encoded = orjson.dumps(data)
    canonical = stable_stringify(data).encode()
    return PreparedDocument(data, encoded, canonical, hashlib.sha256(canonical).hexdigest())


def author_fields(author: AuthorProof | None) -> bytes:
    """The author as the last fields of a JSON object, with the comma before them."""
    if author is None:
        return b""
    return b',"authorPubkey":%b,"authorSignature":%b' % (
        orjson.dumps(author.pubkey),
        orjson.dumps(author.signature),
    )


def encode_document(document: PreparedDocument, ts: int, author: AuthorProof | None) -> bytes:
    """The text to store."""
    return b'{"v":1,"data":%b,"ts":%d,"hash":"%b"%b}' % (
        document.json,
        ts,
        document.hash.encode(),
        author_fields(author),
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One stored version of a document, its ``data`` still text."""

    data_json: bytes
    ts: int
    hash: str
    author: AuthorProof | None

    @classmethod
    def parse(cls, key: str, text: bytes) -> Snapshot:
        """Take a stored text apart.

        Raises:
            DamagedDocumentError: it is not a document of this layout.
        """
        if text.startswith(_HEAD):
            start = text.rfind(b',"ts":', max(len(text) - _LONGEST_TAIL, len(_HEAD)))
            tail = _TAIL.fullmatch(text, start) if start > 0 else None
            if tail is not None:
                _check_utf8(key, text)
                pubkey = tail["pubkey"]
                author = None
                if pubkey is not None:
                    author = AuthorProof(pubkey.decode(), tail["signature"].decode())
                data = text[len(_HEAD) : start]
                return cls(data, int(tail["ts"]), tail["hash"].decode(), author)
        return _parse_other_layout(key, text)

    def is_expired(self, now_ms: int, ttl_ms: int | None) -> bool:
        """Whether the document reads as never written."""
        return ttl_ms is not None and self.ts + ttl_ms <= now_ms

    def document(self, key: str) -> StoredDocument:
        """The document with its ``data`` as objects.

        Raises:
            DamagedDocumentError: ``data`` is not a JSON object.
        """
        try:
            data = orjson.loads(self.data_json)
        except orjson.JSONDecodeError as error:
            raise DamagedDocumentError(key, "data is not JSON") from error
        if not is_object(data):
            raise DamagedDocumentError(key, "data is not an object")
        return StoredDocument(data, self.ts, self.hash, self.author)


def _check_utf8(key: str, text: bytes) -> None:
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise DamagedDocumentError(key, "it is not UTF-8") from error


def _parse_other_layout(key: str, text: bytes) -> Snapshot:
    """Read what another implementation of the protocol wrote: same fields, other order or spaces."""
    try:
        stored = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DamagedDocumentError(key, "it is not JSON") from error
    if not is_object(stored) or stored.get("v") != 1:
        raise DamagedDocumentError(key, "it has no v: 1")
    data, ts, hash_ = stored.get("data"), stored.get("ts"), stored.get("hash")
    if not (
        is_object(data)
        and isinstance(ts, int)
        and isinstance(hash_, str)
        and _HASH.fullmatch(hash_)
    ):
        raise DamagedDocumentError(key, "data, ts or hash is missing or of a wrong type")
    pubkey, signature = stored.get("authorPubkey"), stored.get("authorSignature")
    author = None
    if isinstance(pubkey, str) and isinstance(signature, str):
        author = AuthorProof(pubkey, signature)
    return Snapshot(orjson.dumps(data), ts, hash_, author)

"""Ids: SHA-256 of bytes, written ``sha256:`` and 64 lowercase hex digits.

A blob's id is the hash of its bytes. Ids of snapshots and commits are hashes of deterministic CBOR,
so that one value has one id in every implementation; docs/mpack-format.md has golden vectors.
That of a snapshot stands in `starfish_mpack_wire._model.snapshot_tree`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, cast

from starfish_mpack_wire.errors import MPackFormatError
from starfish_protocol import cbor

__all__ = (
    "blob_id",
    "check_object_id",
    "commit_id",
    "digest_of",
    "is_object_id",
    "object_id_of",
)

_OBJECT_ID = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT_TAG = "starfish.commit.v1"
_PLAIN_KEYS: frozenset[str] = frozenset(
    ("commit_id", "branch", "snapshot_id", "parent_ids", "message", "author", "committed_at")
)


def is_object_id(text: object) -> bool:
    r"""Tell whether this is the text of an id, the whole of it.

    Examples:
        >>> is_object_id("sha256:" + "0" * 64), is_object_id("sha256:" + "0" * 64 + "\n")
        (True, False)
    """
    return type(text) is str and _OBJECT_ID.fullmatch(text) is not None


def check_object_id(text: object) -> str:
    """Give the text back when it is an id.

    Raises:
        MPackFormatError: it is anything else.
    """
    if type(text) is str and _OBJECT_ID.fullmatch(text) is not None:
        return text
    raise MPackFormatError(
        f"{text!r:.90} is not an id: it must be sha256: and 64 lowercase hex digits"
    )


def digest_of(object_id: str) -> bytes:
    """Give the 32 bytes of an id.

    Raises:
        MPackFormatError: it is not an id.
    """
    return bytes.fromhex(check_object_id(object_id)[7:])


def object_id_of(digest: bytes) -> str:
    """Give the id of a digest of 32 bytes."""
    return "sha256:" + digest.hex()


def blob_id(data: bytes | bytearray | memoryview) -> str:
    """Give the id of some bytes; ``sha256sum`` prints the same digits.

    Examples:
        >>> blob_id(b"")
        'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    return "sha256:" + sha256(data).hexdigest()


def commit_id(record: Mapping[str, Any]) -> str:
    """Give the id of a commit: of all its keys but ``commit_id``, the unknown ones included.

    Raises:
        MPackFormatError: a value has no place in a commit; the message names its path.
    """
    plain = _plain_commit(record)
    if plain is not None:
        return "sha256:" + sha256(plain).hexdigest()
    body = {key: value for key, value in record.items() if key != "commit_id"}
    try:
        return "sha256:" + sha256(cbor.encode([_COMMIT_TAG, body])).hexdigest()
    except (TypeError, ValueError) as error:
        raise MPackFormatError(f"a commit that has no id: {error}") from error


def _plain_commit(record: Mapping[str, Any]) -> bytes | None:
    """Encode a commit that has the usual keys and no others; ``None`` for any other record.

    It gives the bytes of `cbor.encode` in a fraction of the time, which is most of what a commit costs
    a clone; that they are the same is tested.
    """
    if len(record) != len(_PLAIN_KEYS) or not record.keys() >= _PLAIN_KEYS:
        return None
    parents: object = record["parent_ids"]
    if type(parents) is not list or len(cast("list[object]", parents)) > 23:
        return None
    texts = [
        record["author"],
        record["branch"],
        record["message"],
        record["snapshot_id"],
        record["committed_at"],
        *cast("list[object]", parents),
    ]
    for text in texts:
        if type(text) is not str:
            return None
    try:
        author, branch, message, snapshot, committed_at, *above = map(
            _cbor_text, cast("list[str]", texts)
        )
    except UnicodeEncodeError:
        return None
    return b"".join(
        (
            b"\x82\x72starfish.commit.v1\xa6\x66author",
            author,
            b"\x66branch",
            branch,
            b"\x67message",
            message,
            b"\x6aparent_ids",
            bytes((0x80 | len(above),)),
            *above,
            b"\x6bsnapshot_id",
            snapshot,
            b"\x6ccommitted_at",
            committed_at,
        )
    )


_TEXT_HEADS = [bytes((0x60 | size,)) if size < 24 else bytes((0x78, size)) for size in range(256)]


def _cbor_text(text: str) -> bytes:
    encoded = text.encode()
    size = len(encoded)
    return _TEXT_HEADS[size] + encoded if size < 256 else cbor.encode(text)

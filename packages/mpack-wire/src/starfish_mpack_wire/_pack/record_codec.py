"""Commits, snapshots and tags as msgpack, and back; one sequence of bytes for each record.

Inside a pack an object is named by a number: below the count of its kind the object is in the pack,
from there on the number leads into the sorted table of foreign ids. Ids, the part of a history
that does not compress, so stand in a pack once; and because a parent's number is smaller than its
child's, order and absence of cycles need no further check.

Decoding checks by encoding again: other lengths, orders, duplicate keys and types all show.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Never, cast

import msgpack  # type: ignore[import-untyped]  # it has neither types nor stubs

from starfish_mpack_wire._model.entries import (
    KINDS,
    blob_of,
    check_entry,
    foreign_digest,
    foreign_id_of,
    kind_of,
)
from starfish_mpack_wire._model.records import SnapshotRecord, TagRecord
from starfish_mpack_wire._model.ref_names import check_ref_name
from starfish_mpack_wire._model.snapshot_paths import check_paths, join_paths, split_paths
from starfish_mpack_wire.errors import MPackFormatError, MPackLimitError
from starfish_mpack_wire.limits import Limits

__all__ = (
    "DecodedSnapshot",
    "check_commit",
    "decode_commits",
    "decode_snapshots",
    "decode_tags",
    "encode_commit",
    "encode_snapshot",
    "encode_tag",
)

Refer = Callable[[str], int]
"""Id to number."""
Resolve = Callable[[int], str]
"""Number to id."""

_KNOWN_KEYS = (
    "branch",
    "snapshot_id",
    "parent_ids",
    "message",
    "author",
    "committed_at",
    "metadata",
)
_OPTIONAL = "metadata"
_ISO_TIME = re.compile(
    r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d(\.\d{1,9})?(Z|[+-]\d\d:[0-5]\d)", re.ASCII
)
_MAX_DEPTH = 16
"""Lists and maps in each other under an unknown key of a commit."""

_msgpack = cast("Any", msgpack)
_TOO_MANY = re.compile(r"(\d+) exceeds max_(?:array|map)_len")
_pack = cast("Callable[[object], bytes]", _msgpack.packb)


def pack_each(values: Iterable[object]) -> bytes:
    # One packer for many values: packb reserves the memory of a new one each time.
    return b"".join(map(_msgpack.Packer().pack, values))


def _refuse_extension(code: int, data: bytes) -> Never:
    raise ValueError(f"an extension type ({code}, {len(data)} bytes)")


def unpack_group(data: bytes, count: int, max_items: int) -> list[Any]:
    """Read exactly ``count`` values.

    The caps on lists and maps bound what nested headers can reserve: msgpack makes room for all
    members of a list when it has seen its header, 1,024 levels deep.
    """
    unpacker = _msgpack.Unpacker(
        max_buffer_size=max(len(data), 1),
        max_array_len=max_items,
        max_map_len=max_items,
        max_ext_len=0,
        ext_hook=_refuse_extension,
    )
    try:
        unpacker.feed(data)
        records: list[Any] = [unpacker.unpack() for _ in range(count)]
    except (ValueError, TypeError, RecursionError, _msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        too_many = _TOO_MANY.match(reason)
        if too_many is not None:
            raise MPackLimitError("max_items", int(too_many[1]), max_items) from error
        raise MPackFormatError(f"records that are not msgpack: {reason:.200}") from error
    if unpacker.tell() != len(data):
        raise MPackFormatError(f"{len(data) - unpacker.tell()} bytes follow the records of a group")
    return records


def array_of(length: int, record: object, kind: str) -> list[Any]:
    if type(record) is not list or len(cast("list[object]", record)) != length:
        raise MPackFormatError(f"a {kind} that is not an array of {length}")
    return cast("list[object]", record)


# Commits: a map. Its id is in the index, not here.


def encode_commit(record: Mapping[str, Any], snapshot: int, parents: list[int]) -> bytes:
    """Give the bytes of a commit that `check_commit` accepted."""
    return _pack(_commit_map(record, snapshot, parents))


def _commit_map(record: Mapping[str, Any], snapshot: int, parents: list[int]) -> dict[str, object]:
    """The map that is packed, its keys in their order."""
    body: dict[str, object] = {
        "branch": record["branch"],
        "snapshot_id": snapshot,
        "parent_ids": parents,
        "message": record["message"],
        "author": record["author"],
        "committed_at": record["committed_at"],
    }
    if _OPTIONAL in record:
        metadata: dict[str, str] = record[_OPTIONAL]
        body[_OPTIONAL] = {key: metadata[key] for key in sorted(metadata)}
    if len(record) > len(body) + ("commit_id" in record):
        for key in sorted(record.keys() - body.keys() - {"commit_id"}):
            body[key] = _ordered(record[key])
    return body


def _ordered(value: object) -> object:
    if type(value) is dict:
        members = cast("dict[str, object]", value)
        return {key: _ordered(members[key]) for key in sorted(members)}
    if type(value) is list or type(value) is tuple:
        return [_ordered(member) for member in cast("list[object]", value)]
    return value


def check_commit(record: Mapping[str, Any], limits: Limits) -> None:
    """Return if everything but the references of a commit may be in a pack.

    Raises:
        MPackFormatError: a key is missing or its value is of another form.
        MPackLimitError: a text or list is too long.
    """
    try:
        check_ref_name(record["branch"])
        _check_references(record["snapshot_id"], record["parent_ids"], limits)
        _check_texts(record["message"], record["author"], record["committed_at"], limits)
    except KeyError as error:
        raise MPackFormatError(f"a commit without {error}") from None
    if _OPTIONAL in record:
        _check_metadata(record[_OPTIONAL], limits)
    if not record.keys() <= _COMMIT_KEYS:
        for key in record.keys() - _COMMIT_KEYS:
            _check_unknown(key, record[key], limits)


def _check_references(snapshot: object, parents: object, limits: Limits) -> None:
    if type(parents) is not list or type(snapshot) not in (int, str):
        raise MPackFormatError("a commit has a list parent_ids and an id snapshot_id")
    count = len(cast("list[object]", parents))
    if count > limits.max_items:
        raise MPackLimitError("max_items", count, limits.max_items)


def _check_texts(message: object, author: object, committed_at: object, limits: Limits) -> None:
    if type(message) is not str or type(author) is not str or type(committed_at) is not str:
        raise MPackFormatError("message, author and committed_at of a commit are texts")
    if _ISO_TIME.fullmatch(committed_at) is None:
        raise MPackFormatError(
            f"committed_at {committed_at!r:.80} of a commit is not a time; "
            "it must be ISO 8601 with seconds and offset, as in 2026-01-31T12:00:00Z"
        )
    for text in (message, author):
        _check_length(text, limits)


def _check_length(text: str, limits: Limits) -> None:
    allowed = limits.max_text_bytes
    if len(text) * 4 > allowed and len(text.encode("utf-8", "surrogatepass")) > allowed:
        raise MPackLimitError("max_text_bytes", len(text.encode("utf-8", "surrogatepass")), allowed)


_COMMIT_KEYS = frozenset((*_KNOWN_KEYS, "commit_id"))


def _check_metadata(metadata: object, limits: Limits) -> None:
    if type(metadata) is not dict:
        raise MPackFormatError("metadata of a commit is a map of texts")
    pairs = cast("dict[object, object]", metadata)
    if len(pairs) > limits.max_items:
        raise MPackLimitError("max_items", len(pairs), limits.max_items)
    for key, value in pairs.items():
        if type(key) is not str or type(value) is not str:
            raise MPackFormatError(f"metadata of a commit is a map of texts; {key!r:.80} is none")
        _check_length(value, limits)


_INT_RANGE = range(-(2**63), 2**64)


def _check_unknown(key: object, value: object, limits: Limits) -> None:
    """Return if a value of an unknown key has one form in msgpack and one in CBOR."""
    if type(key) is not str:
        raise MPackFormatError(f"keys of a commit are texts; {key!r:.80} is none")
    level: list[object] = [value]
    for _ in range(_MAX_DEPTH + 1):
        below: list[object] = []
        for member in level:
            if type(member) is dict:
                pairs = cast("dict[object, object]", member)
                if any(type(name) is not str for name in pairs):
                    raise MPackFormatError(f"{key!r:.80} of a commit has a key that is not text")
                below += pairs.values()
            elif type(member) is list:
                below += cast("list[object]", member)
            elif not _is_plain(member):
                raise MPackFormatError(
                    f"{key!r:.80} of a commit holds {member!r:.80}; it must hold None, bool, text, "
                    "bytes, floats but NaN, and integers of 64 bits"
                )
            if len(below) > limits.max_text_bytes:
                raise MPackLimitError("max_text_bytes", len(below), limits.max_text_bytes)
        if not below:
            return
        level = below
    raise MPackFormatError(f"{key!r:.80} of a commit is nested deeper than {_MAX_DEPTH}")


def _is_plain(value: object) -> bool:
    if type(value) is int:
        return value in _INT_RANGE
    if type(value) is float:
        return value == value  # noqa: PLR0124 - false for NaN, of which msgpack has many
    return value is None or type(value) in (bool, str, bytes)


def decode_commits(data: bytes, count: int, limits: Limits) -> list[dict[str, Any]]:
    """Give the commits of a group, with numbers for ids and no ``commit_id``.

    Raises:
        MPackFormatError: the bytes are not those that `encode_commit` makes of such commits.
        MPackLimitError: a text or list is too long.
    """
    records = unpack_group(data, count, max(limits.max_items, len(_KNOWN_KEYS)))
    again: list[bytes] = []
    pack = _msgpack.Packer().pack
    for record in records:
        if not isinstance(record, dict) or "commit_id" in record:
            raise MPackFormatError("a commit that is not a map, or has its id inside")
        record = cast("dict[str, Any]", record)
        check_commit(record, limits)
        snapshot, parents = record["snapshot_id"], record["parent_ids"]
        if type(snapshot) is not int or not all(type(parent) is int for parent in parents):
            raise MPackFormatError("a commit of a pack names objects by number")
        again.append(pack(_commit_map(record, snapshot, parents)))
    if b"".join(again) != data:
        raise MPackFormatError("commits are not in their one encoding")
    return records


# Snapshots: [parent, paths, kinds, blobs, gitlinks, removed, directories], without lists inside, so that
# 100,000 paths are one text and one run of numbers. Where all entries are plain files, kinds is empty.

_SNAPSHOT_MEMBERS = 7
_GITLINK = KINDS.index("gitlink")


def encode_snapshot(record: SnapshotRecord, parent: int | None, refer_blob: Refer) -> bytes:
    """Return the bytes of a snapshot.

    Raises:
        MPackFormatError: it names a path that it may not, twice, or both changes and removes it.
    """
    upsert, remove, directories = record["upsert"], record["remove"], record["directories"]
    paths = sorted(upsert)
    removed, listed = sorted(remove), sorted(directories)
    for some in (paths, removed, listed):
        check_paths(some)
        if len(set(some)) != len(some):
            raise MPackFormatError("a snapshot names a path twice")
    if not upsert.keys().isdisjoint(removed):
        raise MPackFormatError("a snapshot both changes and removes a path")
    entries = [check_entry(upsert[path]) for path in paths]
    kinds = bytes(KINDS.index(kind_of(entry)) for entry in entries)
    ids = [blob for blob in map(blob_of, entries) if blob is not None]
    links = b"".join(
        _gitlink_bytes(entry["id"])
        for entry in entries
        if not isinstance(entry, str) and entry["kind"] == "gitlink"
    )
    blobs = struct.pack(f">{len(ids)}I", *map(refer_blob, ids))
    return _pack(
        [
            parent,
            join_paths(paths),
            kinds if any(kinds) else b"",
            blobs,
            links,
            join_paths(removed),
            join_paths(listed),
        ]
    )


def _gitlink_bytes(gitlink_id: str) -> bytes:
    digest = foreign_digest(gitlink_id)
    return bytes((len(digest),)) + digest


def _gitlinks_of(data: bytes, count: int) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise MPackFormatError("the gitlinks of a snapshot are cut off")
        found.append(foreign_id_of(data[at + 1 : end]))
        at = end
    if len(found) != count:
        raise MPackFormatError(f"{len(found)} gitlinks of a snapshot that names {count}")
    return found


class DecodedSnapshot(NamedTuple):
    """A snapshot with numbers for ids."""

    parent: int | None
    paths: list[str]
    kinds: bytes
    """A number for each path; empty when all are plain files."""
    blobs: tuple[int, ...]
    """Of all paths but gitlinks."""
    gitlinks: list[str]
    removed: list[str]
    directories: list[str]


def decode_snapshots(data: bytes, count: int) -> list[DecodedSnapshot]:
    """Return the snapshots of a group.

    Raises:
        MPackFormatError: the bytes are not those that `encode_snapshot` makes of such snapshots.
    """
    records = unpack_group(data, count, _SNAPSHOT_MEMBERS)
    found: list[DecodedSnapshot] = []
    every_path: list[str] = []
    for record in records:
        parent, paths, kinds, blobs, links, removed, directories = array_of(
            _SNAPSHOT_MEMBERS, record, "snapshot"
        )
        if (
            not (parent is None or type(parent) is int)
            or not (type(paths) is type(removed) is type(directories) is str)
            or not (type(blobs) is type(kinds) is type(links) is bytes)
        ):
            raise MPackFormatError("a snapshot has members of other types")
        names, gone, listed = split_paths(paths), split_paths(removed), split_paths(directories)
        _check_kinds(kinds, len(names))
        gitlinks = _gitlinks_of(links, kinds.count(_GITLINK))
        if len(blobs) != 4 * (len(names) - len(gitlinks)):
            raise MPackFormatError(f"{len(blobs)} bytes of numbers for {len(names)} paths")
        if gone and not set(names).isdisjoint(gone):
            raise MPackFormatError("a snapshot both changes and removes a path")
        numbers = struct.unpack(f">{len(blobs) // 4}I", blobs)
        every_path += names
        every_path += gone
        every_path += listed
        found.append(DecodedSnapshot(parent, names, kinds, numbers, gitlinks, gone, listed))
    check_paths(every_path)
    if pack_each(records) != data:
        raise MPackFormatError("snapshots are not in their one encoding")
    return found


def _check_kinds(kinds: bytes, paths: int) -> None:
    if kinds and (len(kinds) != paths or not any(kinds) or max(kinds) >= len(KINDS)):
        raise MPackFormatError(f"{len(kinds)} kinds of {paths} paths are not in their one encoding")


# Tags: [name, commit].


def encode_tag(record: TagRecord, commit: int) -> bytes:
    """Give the bytes of a tag."""
    return _pack([check_ref_name(record["name"]), commit])


def decode_tags(data: bytes, count: int) -> list[tuple[str, int]]:
    """Give the tags of a group: name and commit.

    Raises:
        MPackFormatError: the bytes are not those that `encode_tag` makes of such tags.
    """
    records = unpack_group(data, count, 2)
    for record in records:
        name, commit = array_of(2, record, "tag")
        check_ref_name(name)
        if type(commit) is not int:
            raise MPackFormatError("a tag names its commit by number")
    if pack_each(records) != data:
        raise MPackFormatError("tags are not in their one encoding")
    return [(name, commit) for name, commit in records]

"""Entries of a snapshot: what stands at a path.

An entry has a kind and an id. A plain file, the usual case, is written as its blob id alone; every other kind as a
map ``{"kind": ..., "id": ...}``. The id of a gitlink is the commit of another repository that git pinned there,
``sha1:`` and 40 hex digits or ``sha256:`` and 64; every other id is that of a blob: of the program's bytes, or of
the text that a symbolic link holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypedDict, cast

from starfish_mpack_wire._model.object_ids import check_object_id
from starfish_mpack_wire.errors import MPackFormatError

__all__ = (
    "KINDS",
    "Entry",
    "EntryKind",
    "EntryRecord",
    "blob_of",
    "blobs_in",
    "check_entry",
    "entry_of",
    "foreign_digest",
    "foreign_id_of",
    "id_of",
    "kind_of",
    "same_path_blobs",
)

EntryKind = Literal["file", "executable", "symlink", "gitlink"]

KINDS: Final[tuple[EntryKind, ...]] = ("file", "executable", "symlink", "gitlink")
"""All kinds; the place of a kind is its number in ids and packs."""


class EntryRecord(TypedDict):
    """An entry that is not a plain file."""

    kind: EntryKind
    id: str
    """Of the blob; of a gitlink, the foreign commit."""


Entry = str | EntryRecord
"""A blob id for a plain file, or a map for every other kind."""

_GITLINK = re.compile(r"sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}")


def entry_of(kind: EntryKind, object_id: str) -> Entry:
    """Return the entry of a kind and an id; nothing is checked.

    Examples:
        >>> entry_of("file", "sha256:00"), entry_of("symlink", "sha256:00")
        ('sha256:00', {'kind': 'symlink', 'id': 'sha256:00'})
    """
    return object_id if kind == "file" else {"kind": kind, "id": object_id}


def kind_of(entry: Entry) -> EntryKind:
    """Return the kind of an entry."""
    return "file" if isinstance(entry, str) else entry["kind"]


def id_of(entry: Entry) -> str:
    """Return the id of an entry, whatever its kind."""
    return entry if isinstance(entry, str) else entry["id"]


def blob_of(entry: Entry) -> str | None:
    """Return the blob id of an entry; a gitlink has none."""
    if isinstance(entry, str):
        return entry
    return None if entry["kind"] == "gitlink" else entry["id"]


def blobs_in(entries: Iterable[Entry]) -> Iterator[str]:
    """Return the blob ids of entries, gitlinks left out."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif entry["kind"] != "gitlink":
            yield entry["id"]


def same_path_blobs(entries: Iterable[tuple[str, Entry]]) -> Iterator[tuple[str, str]]:
    """Return path and blob id of entries, gitlinks left out."""
    for path, entry in entries:
        blob = blob_of(entry)
        if blob is not None:
            yield path, blob


def check_entry(value: object) -> Entry:
    """Return an entry in its one form.

    Raises:
        MPackFormatError: the value is neither a blob id nor a map of a known kind and its id.

    Examples:
        >>> check_entry({"kind": "gitlink", "id": "sha1:" + "0" * 40})["kind"]
        'gitlink'
    """
    if isinstance(value, str):
        return check_object_id(value)
    if not isinstance(value, dict) or value.keys() != {"kind", "id"}:
        raise MPackFormatError(
            f"{value!r:.120} is not an entry: it must be a blob id, or a map of kind and id"
        )
    members = cast("dict[str, object]", value)
    kind, object_id = members["kind"], members["id"]
    if kind not in KINDS:
        raise MPackFormatError(f"kind {kind!r:.40} of an entry must be one of {', '.join(KINDS)}")
    if kind == "gitlink":
        if type(object_id) is not str or _GITLINK.fullmatch(object_id) is None:
            raise MPackFormatError(
                f"id {object_id!r:.90} of a gitlink must be sha1: and 40, or sha256: and 64 "
                "lowercase hex digits"
            )
        return cast("EntryRecord", members)
    checked = check_object_id(object_id)
    return checked if kind == "file" else cast("EntryRecord", members)


def foreign_digest(gitlink_id: str) -> bytes:
    """Return the 20 or 32 bytes of a checked id of a gitlink."""
    return bytes.fromhex(gitlink_id.partition(":")[2])


def foreign_id_of(digest: bytes) -> str:
    """Return the id of a gitlink from its 20 or 32 bytes.

    Raises:
        MPackFormatError: it is of another length.
    """
    if len(digest) not in {20, 32}:
        raise MPackFormatError(f"a gitlink of {len(digest)} bytes; it must have 20 or 32")
    return f"{'sha1' if len(digest) == 20 else 'sha256'}:{digest.hex()}"

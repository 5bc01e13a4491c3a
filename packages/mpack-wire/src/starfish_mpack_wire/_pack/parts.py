"""The parts of an opened pack, decoded on request and checked as they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import pairwise
from threading import Lock
from typing import Any, Generic, TypeVar, cast

from starfish_mpack_wire._model.entries import KINDS, Entry, blobs_in, entry_of
from starfish_mpack_wire._model.object_ids import commit_id, object_id_of
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord, TagRecord
from starfish_mpack_wire._pack.blob_index import BlobEntry, BlobFields, BlobIndex, find_digest
from starfish_mpack_wire._pack.frame import Bytes, decompress, decompressed_pieces
from starfish_mpack_wire._pack.layout import (
    DIGEST_BYTES,
    ID_ENTRY,
    MAX_BLOCK_BYTES,
    Section,
    Sections,
)
from starfish_mpack_wire._pack.order import check_chains
from starfish_mpack_wire._pack.record_codec import (
    DecodedSnapshot,
    decode_commits,
    decode_snapshots,
    decode_tags,
)
from starfish_mpack_wire._pack.record_groups import RecordGroups
from starfish_mpack_wire.errors import MPackFormatError, MPackIntegrityError, MPackLimitError
from starfish_mpack_wire.limits import Limits

__all__ = ("IdIndex", "Parts", "check_id")


def check_id(what: str, expected: str, actual: str) -> None:
    """Return if two ids are the same.

    Raises:
        MPackIntegrityError: they are not.
    """
    if expected != actual:
        raise MPackIntegrityError(what, expected, actual)


def _entries_of(decoded: DecodedSnapshot, blobs: list[str]) -> dict[str, Entry]:
    if not decoded.kinds:
        return dict(zip(decoded.paths, blobs, strict=True))
    files, links = iter(blobs), iter(decoded.gitlinks)
    return {
        path: entry_of(KINDS[kind], next(links if KINDS[kind] == "gitlink" else files))
        for path, kind in zip(decoded.paths, decoded.kinds, strict=True)
    }


_GROUPS_KEPT = 8
PIECE_BYTES = 1 << 20

_Decoded = TypeVar("_Decoded")


class _RecentGroups(Generic[_Decoded]):
    """The groups of records that were decoded last; threads may share it."""

    __slots__ = ("_groups", "_lock")

    def __init__(self) -> None:
        self._groups: OrderedDict[int, list[_Decoded]] = OrderedDict()
        self._lock = Lock()

    def get(self, group: int) -> list[_Decoded] | None:
        with self._lock:
            found = self._groups.get(group)
            if found is not None:
                self._groups.move_to_end(group)
            return found

    def keep(self, group: int, records: list[_Decoded]) -> None:
        with self._lock:
            self._groups[group] = records
            while len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)


class IdIndex:
    """Ids of the records of one kind, sorted, each with the number of its record."""

    __slots__ = ("_ids", "_name", "_view")

    def __init__(self, view: memoryview, name: str) -> None:
        self._view = view
        self._name = name
        self._ids: list[str] | None = None

    def find(self, digest: bytes) -> int | None:
        """Give the number of the record of this id.

        Raises:
            MPackFormatError: there is no record of the number.
        """
        place = find_digest(self._view, ID_ENTRY.size, digest)
        if place is None:
            return None
        number: int = ID_ENTRY.unpack_from(self._view, place * ID_ENTRY.size)[1]
        if number >= len(self._view) // ID_ENTRY.size:
            raise MPackFormatError(f"{self._name} has no record {number}")
        return number

    def ids(self) -> list[str]:
        """Give the ids in the order of their records.

        Raises:
            MPackFormatError: ids are out of order or twice, or a record has none.
        """
        if self._ids is None:
            found: list[str] = [""] * (len(self._view) // ID_ENTRY.size)
            before = b""
            for digest, number in ID_ENTRY.iter_unpack(self._view):
                if digest <= before:
                    raise MPackFormatError(f"{self._name} is out of order, or has an id twice")
                if number >= len(found) or found[number]:
                    raise MPackFormatError(f"{self._name} names record {number} wrongly")
                found[number] = "sha256:" + digest.hex()
                before = digest
            self._ids = found
        return self._ids


class Parts:
    """What the sections of a pack hold."""

    def __init__(self, sections: Sections, limits: Limits) -> None:
        views = sections.views
        self.sections = sections
        self._limits = limits
        self._blob_bytes = views[Section.BLOBS]
        self._foreign = views[Section.FOREIGN_IDS]
        self.blobs = BlobIndex(views[Section.BLOB_INDEX], len(self._blob_bytes), limits)
        self.commit_ids = IdIndex(views[Section.COMMIT_INDEX], "COMMIT_INDEX")
        self.snapshot_ids = IdIndex(views[Section.SNAPSHOT_INDEX], "SNAPSHOT_INDEX")
        self.commit_groups = RecordGroups(views[Section.COMMITS], "COMMITS", limits)
        self.snapshot_groups = RecordGroups(views[Section.SNAPSHOTS], "SNAPSHOTS", limits)
        self._tag_groups = RecordGroups(views[Section.TAGS], "TAGS", limits)
        for groups, count, name in (
            (self.commit_groups, sections.commit_count, "commits"),
            (self.snapshot_groups, sections.snapshot_count, "snapshots"),
        ):
            if groups.record_count != count:
                raise MPackFormatError(f"{groups.record_count} {name}, and {count} in their index")
        if self._tag_groups.record_count > limits.max_tags:
            raise MPackLimitError("max_tags", self._tag_groups.record_count, limits.max_tags)
        # A pair, so that threads see both halves or neither.
        self._last_block: tuple[int, bytes] = (-1, b"")
        self._recent_commits = _RecentGroups[CommitRecord]()
        self._recent_snapshots = _RecentGroups[SnapshotRecord]()
        self._blob_names: list[str] | None = None

    def check_seal(self) -> None:
        """Return if the hash at the end is that of all bytes before it.

        Raises:
            MPackIntegrityError: it is not.
        """
        sealed = self.sections.whole[:-DIGEST_BYTES]
        check_id(
            "the seal of the pack",
            object_id_of(bytes(self.sections.footer)),
            object_id_of(sha256(sealed).digest()),
        )

    # Blobs.

    def blob(self, entry: BlobEntry) -> bytes:
        """Give the bytes of a blob whose entry was checked."""
        _, offset, stored_length, block_length, start, length = entry
        last = self._last_block
        if last[0] == offset and len(last[1]) == block_length:
            block = last[1]
        else:
            block = self._block(offset, stored_length, block_length)
            if block_length <= MAX_BLOCK_BYTES:
                self._last_block = (offset, block)
        return block if length == block_length else block[start : start + length]

    def _block(self, offset: int, stored_length: int, block_length: int) -> bytes:
        stored = self._blob_bytes[offset : offset + stored_length]
        return bytes(stored) if stored_length == block_length else decompress(stored, block_length)

    def contents(self, entries: Mapping[int, BlobFields]) -> Iterator[tuple[int, bytes]]:
        """Give number and bytes of each blob, in the order of ``entries``.

        Each is checked against its id. ``entries`` were checked and are in the order in which the
        blobs are stored, so that each block is decompressed once.

        Raises:
            MPackFormatError: a frame is damaged.
            MPackIntegrityError: a blob does not have its id.
        """
        at, block = -1, b""
        for number, (
            expected,
            offset,
            stored_length,
            block_length,
            start,
            length,
        ) in entries.items():
            if offset != at or len(block) != block_length:
                at, block = offset, self._block(offset, stored_length, block_length)
            content = block[start : start + length]
            digest = sha256(content).digest()
            if digest != expected:
                check_id("blob", object_id_of(expected), object_id_of(digest))
            yield number, content

    def pieces(self, entry: BlobFields) -> Iterator[Bytes]:
        """Return the bytes of a blob whose entry was checked, in pieces; nothing is hashed.

        Raises:
            MPackFormatError: its frame is damaged.
        """
        digest, offset, stored_length, block_length, start, length = entry
        if block_length <= MAX_BLOCK_BYTES:
            yield self.blob(BlobEntry(digest, offset, stored_length, block_length, start, length))
        elif stored_length < block_length:
            stored = self._blob_bytes[offset : offset + stored_length]
            yield from decompressed_pieces(stored, block_length)
        else:
            for at in range(offset, offset + stored_length, PIECE_BYTES):
                yield self._blob_bytes[at : min(at + PIECE_BYTES, offset + stored_length)]

    def check_contents(self, entries: Mapping[int, BlobFields]) -> None:
        """Check all blobs against their ids; at most one block of several is in memory, a larger one passes.

        Args:
            entries: checked, in the order in which the blobs are stored.

        Raises:
            MPackFormatError: a frame is damaged.
            MPackIntegrityError: a blob does not have its id.
        """
        small: dict[int, BlobFields] = {}
        for number, entry in entries.items():
            if entry[3] <= MAX_BLOCK_BYTES:
                small[number] = entry
                continue
            found = sha256()
            for piece in self.pieces(entry):
                found.update(piece)
            if found.digest() != entry[0]:
                check_id("blob", object_id_of(entry[0]), object_id_of(found.digest()))
        for _ in self.contents(small):
            pass

    # Records.

    def foreign_id(self, number: int) -> str:
        """Give an id of an object that the pack names and does not hold.

        Raises:
            MPackFormatError: there is none of this number.
        """
        start = number * DIGEST_BYTES
        if start >= len(self._foreign):
            raise MPackFormatError(f"foreign id {number} of {self.sections.foreign_count}")
        return "sha256:" + self._foreign[start : start + DIGEST_BYTES].hex()

    def blob_names(self) -> list[str]:
        """Give the ids of all blobs, sorted; records that are read later share these texts."""
        if self._blob_names is None:
            self._blob_names = ["sha256:" + digest.hex() for digest in self.blobs.digests()]
        return self._blob_names

    def _blob_name(self, number: int) -> str:
        count = len(self.blobs)
        if number < count:
            return "sha256:" + self.blobs.digest(number).hex()
        return self.foreign_id(number - count)

    def _name(self, ids: list[str], number: int, before: int) -> str:
        """Give the id of an object that a record names; one in the pack must stand before ``before``."""
        if 0 <= number < before:
            return ids[number]
        if number < len(ids):
            raise MPackFormatError(f"record {before} names record {number}, which is not before it")
        return self.foreign_id(number - len(ids))

    def commits_in(self, group: int) -> list[CommitRecord]:
        """Give the commits of a group, each checked against its id."""
        known = self._recent_commits.get(group)
        if known is not None:
            return known
        ids, snapshots = self.commit_ids.ids(), self.snapshot_ids.ids()
        groups = self.commit_groups
        number = groups.first_record(group)
        found: list[CommitRecord] = []
        for body in decode_commits(groups.read(group), groups.records_in(group), self._limits):
            record: dict[str, Any] = {"commit_id": ids[number], **body}
            record["snapshot_id"] = self._name(snapshots, body["snapshot_id"], len(snapshots))
            record["parent_ids"] = parents = [
                self._name(ids, parent, number) for parent in body["parent_ids"]
            ]
            if len(parents) > 1 and len(set(parents)) != len(parents):
                raise MPackFormatError(f"commit {ids[number]} has a parent twice")
            check_id("commit", ids[number], commit_id(record))
            found.append(cast("CommitRecord", record))
            number += 1
        self._recent_commits.keep(group, found)
        return found

    def snapshots_in(self, group: int) -> list[SnapshotRecord]:
        """Give the snapshots of a group; their ids need the snapshots before them and are not checked."""
        known = self._recent_snapshots.get(group)
        if known is not None:
            return known
        ids = self.snapshot_ids.ids()
        groups = self.snapshot_groups
        number = groups.first_record(group)
        found: list[SnapshotRecord] = []
        names = self._blob_names or []
        own = len(names)
        for decoded in decode_snapshots(groups.read(group), groups.records_in(group)):
            parent = decoded.parent
            blobs = [names[blob] if blob < own else self._blob_name(blob) for blob in decoded.blobs]
            record: SnapshotRecord = {
                "snapshot_id": ids[number],
                "parent_snapshot_id": None if parent is None else self._name(ids, parent, number),
                "upsert": _entries_of(decoded, blobs),
                "remove": decoded.removed,
                "directories": decoded.directories,
            }
            found.append(record)
            number += 1
        self._recent_snapshots.keep(group, found)
        return found

    def tags(self) -> list[TagRecord]:
        """Give the tags, sorted by name."""
        ids = self.commit_ids.ids()
        groups = self._tag_groups
        found: list[TagRecord] = []
        for group in range(len(groups)):
            for name, commit in decode_tags(groups.read(group), groups.records_in(group)):
                if found and name <= found[-1]["name"]:
                    raise MPackFormatError("tags are out of order, or one is there twice")
                found.append({"name": name, "commit_id": self._name(ids, commit, len(ids))})
        return found

    def check_records(self) -> tuple[list[CommitRecord], list[SnapshotRecord], list[TagRecord]]:
        """Give all records after the checks that need all: chains, and no idle foreign id.

        Raises:
            MPackFormatError: a record or the whole breaks a rule.
            MPackIntegrityError: a commit does not have its id.
            MPackLimitError: a record is larger than the limits allow.
        """
        self.blob_names()
        commits = [
            each for group in range(len(self.commit_groups)) for each in self.commits_in(group)
        ]
        snapshots = [
            each for group in range(len(self.snapshot_groups)) for each in self.snapshots_in(group)
        ]
        tags = self.tags()
        check_chains(snapshots)
        self._check_foreign(commits, snapshots, tags)
        return commits, snapshots, tags

    def _check_foreign(
        self,
        commits: list[CommitRecord],
        snapshots: list[SnapshotRecord],
        tags: list[TagRecord],
    ) -> None:
        foreign = [self.foreign_id(each) for each in range(self.sections.foreign_count)]
        if any(one >= two for one, two in pairwise(foreign)):
            raise MPackFormatError("foreign ids are out of order, or one is there twice")
        own_commits = {commit["commit_id"] for commit in commits}
        own_blobs = self.blob_names()
        named_commits = {parent for commit in commits for parent in commit["parent_ids"]}
        named_commits.update(tag["commit_id"] for tag in tags)
        named_snapshots = {commit["snapshot_id"] for commit in commits}
        named_snapshots.update(each["parent_snapshot_id"] or "" for each in snapshots)
        named_snapshots.discard("")
        named_blobs: set[str] = set()
        for snapshot in snapshots:
            named_blobs.update(blobs_in(snapshot["upsert"].values()))
        named = named_commits - own_commits
        named |= named_snapshots - {each["snapshot_id"] for each in snapshots}
        named |= named_blobs.difference(own_blobs)
        if named != set(foreign):
            raise MPackFormatError("foreign ids are not exactly what the pack names and lacks")

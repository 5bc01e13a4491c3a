"""The parts of an opened pack, decoded on request and checked as they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import pairwise
from threading import Lock
from typing import Any, Generic, TypeVar, cast

from starfish_mpack_wire._model.chunk_lists import Chunk, ChunkList, checked_pieces, length_of
from starfish_mpack_wire._model.entries import KINDS, Entry, blobs_in, entry_of
from starfish_mpack_wire._model.object_ids import commit_id, digest_of, object_id_of
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord, TagRecord
from starfish_mpack_wire._pack.blob_index import BlobEntry, BlobFields, BlobIndex, find_digest
from starfish_mpack_wire._pack.chunk_list_codec import decode_chunk_lists
from starfish_mpack_wire._pack.frame import decompress
from starfish_mpack_wire._pack.layout import (
    DIGEST_BYTES,
    ID_ENTRY,
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
from starfish_mpack_wire.errors import (
    MPackFormatError,
    MPackIntegrityError,
    MPackLimitError,
    ObjectNotFoundError,
)
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

    def __len__(self) -> int:
        """Count the ids."""
        return len(self._view) // ID_ENTRY.size

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
        self.chunked_ids = IdIndex(views[Section.CHUNKED_INDEX], "CHUNKED_INDEX")
        self.commit_groups = RecordGroups(views[Section.COMMITS], "COMMITS", limits)
        self.snapshot_groups = RecordGroups(views[Section.SNAPSHOTS], "SNAPSHOTS", limits)
        self._tag_groups = RecordGroups(views[Section.TAGS], "TAGS", limits)
        self._chunked_groups = RecordGroups(views[Section.CHUNKED], "CHUNKED", limits)
        for groups, count, name in (
            (self.commit_groups, sections.commit_count, "commits"),
            (self.snapshot_groups, sections.snapshot_count, "snapshots"),
            (self._chunked_groups, sections.chunked_count, "lists of chunks"),
        ):
            if groups.record_count != count:
                raise MPackFormatError(f"{groups.record_count} {name}, and {count} in their index")
        if self._tag_groups.record_count > limits.max_tags:
            raise MPackLimitError("max_tags", self._tag_groups.record_count, limits.max_tags)
        # A pair, so that threads see both halves or neither.
        self._last_block: tuple[int, bytes] = (-1, b"")
        self._recent_commits = _RecentGroups[CommitRecord]()
        self._recent_snapshots = _RecentGroups[SnapshotRecord]()
        self._recent_lists = _RecentGroups[ChunkList]()
        self._blob_names: list[str] | None = None

    @property
    def record_bytes(self) -> int:
        """Bytes of all records, decompressed, by their tables."""
        every = (self.commit_groups, self.snapshot_groups, self._tag_groups, self._chunked_groups)
        return sum(groups.raw_bytes for groups in every)

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

    def checked_blob(self, entry: BlobEntry) -> bytes:
        """Return the bytes of a blob whose entry was checked, checked against its id.

        Raises:
            MPackFormatError: its frame is damaged.
            MPackIntegrityError: the bytes are not those of its id.
        """
        content = self.blob(entry)
        digest = sha256(content).digest()
        if digest != entry.digest:
            check_id("blob", object_id_of(entry.digest), object_id_of(digest))
        return content

    def check_contents(self, entries: Mapping[int, BlobFields]) -> None:
        """Check all stored blobs against their ids; one block is in memory at a time.

        Args:
            entries: checked, in the order in which the blobs are stored.

        Raises:
            MPackFormatError: a frame is damaged.
            MPackIntegrityError: a blob does not have its id.
        """
        for _ in self.contents(entries):
            pass

    # Large blobs.

    def chunk_list(self, object_id: str) -> ChunkList | None:
        """Return the chunks of a large blob; ``None`` where the pack has no list of it.

        Raises:
            MPackFormatError: the list breaks a rule.
            MPackLimitError: the blob is larger than the limits allow.
        """
        number = self.chunked_ids.find(digest_of(object_id)) if len(self.chunked_ids) else None
        if number is None:
            return None
        group, place = self._chunked_groups.find(number)
        return self._lists_in(group)[place]

    def chunk_lists(self) -> Iterator[tuple[str, ChunkList]]:
        """Return id and chunks of all large blobs.

        Raises:
            MPackFormatError: a list breaks a rule.
            MPackLimitError: a blob is larger than the limits allow.
        """
        ids = iter(self.chunked_ids.ids())
        for group in range(len(self._chunked_groups)):
            for chunks in self._lists_in(group):
                yield next(ids), chunks

    def _lists_in(self, group: int) -> list[ChunkList]:
        known = self._recent_lists.get(group)
        if known is not None:
            return known
        groups = self._chunked_groups
        stored = len(self.blobs)
        found: list[ChunkList] = []
        for numbers, lengths in decode_chunk_lists(
            groups.read(group), groups.records_in(group), self._limits
        ):
            for number, length in zip(numbers, lengths, strict=True):
                if number < stored and self.blobs.entry(number).length != length:
                    raise MPackFormatError(f"a list of chunks says {length} bytes of another blob")
                if stored <= number < stored + len(self.chunked_ids):
                    raise MPackFormatError("a list of chunks names another list")
            found.append(
                tuple(
                    Chunk(self._blob_name(number), length)
                    for number, length in zip(numbers, lengths, strict=True)
                )
            )
        self._recent_lists.keep(group, found)
        return found

    def pieces(self, object_id: str, chunks: ChunkList) -> Iterator[bytes]:
        """Return the bytes of a large blob in pieces; its id is checked with the last one.

        Raises:
            ObjectNotFoundError: a chunk is not in the pack.
            MPackIntegrityError: the bytes are not those of its id.
        """

        def read(chunk_id: str) -> bytes:
            number = self.blobs.find(digest_of(chunk_id))
            if number is None:
                raise ObjectNotFoundError(chunk_id)
            return self.checked_blob(self.blobs.entry(number))

        return checked_pieces(object_id, chunks, read)

    def check_chunk_lists(self) -> None:
        """Check all large blobs whose chunks are in the pack against their ids, and all lists for their form.

        Raises:
            MPackFormatError: a list breaks a rule.
            MPackIntegrityError: a blob does not have its id.
            MPackLimitError: all blobs together are larger than the limits allow.
        """
        total = 0
        for object_id, chunks in self.chunk_lists():
            if self.blobs.find(digest_of(object_id)) is not None:
                raise MPackFormatError(f"blob {object_id} is both stored and a list of chunks")
            total += length_of(chunks)
        if total > self._limits.max_unpacked_bytes:
            raise MPackLimitError("max_unpacked_bytes", total, self._limits.max_unpacked_bytes)
        for object_id, chunks in self.chunk_lists():
            if self.is_whole(chunks):
                for _ in self.pieces(object_id, chunks):
                    pass

    def is_whole(self, chunks: ChunkList) -> bool:
        """Return whether the pack holds all of these chunks."""
        return all(
            self.blobs.find(digest_of(each)) is not None
            for each in dict.fromkeys(chunk.object_id for chunk in chunks)
        )

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
        """Return the ids of all blobs by number: the stored ones sorted, then the large ones, sorted.

        Records that are read later share these texts.
        """
        if self._blob_names is None:
            stored = ["sha256:" + digest.hex() for digest in self.blobs.digests()]
            self._blob_names = stored + self.chunked_ids.ids()
        return self._blob_names

    def _blob_name(self, number: int) -> str:
        count = len(self.blobs)
        if number < count:
            return "sha256:" + self.blobs.digest(number).hex()
        large = self.chunked_ids.ids() if len(self.chunked_ids) else []
        if number < count + len(large):
            return large[number - count]
        return self.foreign_id(number - count - len(large))

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
        for _, chunks in self.chunk_lists():
            named_blobs.update(chunk.object_id for chunk in chunks)
        named = named_commits - own_commits
        named |= named_snapshots - {each["snapshot_id"] for each in snapshots}
        named |= named_blobs.difference(own_blobs)
        if named != set(foreign):
            raise MPackFormatError("foreign ids are not exactly what the pack names and lacks")

"""Writes packs: records and blobs in, one sequence of bytes out.

The order of everything and the blocks of the blobs are functions of the content, so that equal content
gives equal bytes; see docs/mpack-format.md for what that promise covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from itertools import pairwise
from typing import Protocol

from starfish_mpack_wire._model.chunk_lists import chunk_ids
from starfish_mpack_wire._model.entries import blobs_in, check_entry
from starfish_mpack_wire._model.object_ids import check_object_id, commit_id, digest_of
from starfish_mpack_wire._model.records import (
    BlobRecord,
    ChunkedRecord,
    CommitRecord,
    SnapshotRecord,
    TagRecord,
)
from starfish_mpack_wire._pack.blob_source import BlobSource, GivenBlobs
from starfish_mpack_wire._pack.chunk_list_codec import encode_chunks
from starfish_mpack_wire._pack.frame import compress
from starfish_mpack_wire._pack.given_records import COMMIT, SNAPSHOT, TAG, check_members
from starfish_mpack_wire._pack.layout import (
    BLOB_ENTRY,
    BLOCK_BLOBS,
    BLOCK_BYTES,
    HEADER,
    ID_ENTRY,
    MAX_BLOCK_BYTES,
    MAX_STORED_BYTES,
    encode_section_table,
)
from starfish_mpack_wire._pack.order import (
    check_chains,
    order_blobs,
    order_commits,
    order_snapshots,
)
from starfish_mpack_wire._pack.record_codec import (
    check_commit,
    encode_commit,
    encode_snapshot,
    encode_tag,
)
from starfish_mpack_wire._pack.record_groups import encode_groups
from starfish_mpack_wire.errors import MPackFormatError, MPackIntegrityError
from starfish_mpack_wire.limits import Limits

__all__ = ("PackOutput", "WrittenPack", "build_mpack", "write_mpack")

_LIMITS = Limits()


class PackOutput(Protocol):
    """Where the bytes of a pack go, first to last: a file opened for writing, a hash, a pipe."""

    def write(self, data: bytes, /) -> object:
        """Take all of some bytes."""
        ...


@dataclass(frozen=True, slots=True)
class WrittenPack:
    """A pack that was written to its end."""

    mpack_id: str
    """SHA-256 of all its bytes."""
    size_bytes: int
    """Their number."""


def build_mpack(
    commits: Iterable[CommitRecord],
    snapshots: Iterable[SnapshotRecord],
    blobs: Iterable[BlobRecord],
    tags: Iterable[TagRecord] = (),
    chunked: Iterable[ChunkedRecord] = (),
) -> bytes:
    """Give the pack of these records, that may come in any order.

    Blobs of more than 1 MiB are cut into chunks. ``chunked`` are such blobs of which the receiver holds some chunks:
    these need not be among ``blobs``.

    Raises:
        MPackFormatError: a record breaks a rule, comes twice, or is its own ancestor.
        MPackIntegrityError: a blob or a commit does not have the id that stands beside it.
        MPackLimitError: a text or list of a commit is too long.

    Examples:
        >>> from starfish_mpack_wire import blob_id, parse_wire_mpack
        >>> pack = build_mpack([], [], [{"object_id": blob_id(b"hi"), "content": b"hi"}])
        >>> parse_wire_mpack(pack)["blobs"][0]["content"]
        b'hi'
        >>> build_mpack(**parse_wire_mpack(pack)) == pack
        True
    """
    given = GivenBlobs(blobs, chunked)
    out = BytesIO()
    write_mpack(out, commits, snapshots, given.ids(), given, tags)
    return out.getvalue()


def write_mpack(  # noqa: PLR0917 - the parts of a pack, in the order of build_mpack
    out: PackOutput,
    commits: Iterable[CommitRecord],
    snapshots: Iterable[SnapshotRecord],
    blob_ids: Iterable[str],
    source: BlobSource,
    tags: Iterable[TagRecord] = (),
) -> WrittenPack:
    """Write the pack of these records and blobs; the bytes are those of `build_mpack`.

    Blobs are asked for one at a time, in the order in which they are stored; those of one block are held.
    What stays in memory is the records and about 250 bytes a blob. The output is written from
    beginning to end and never read, so it may be a pipe. After an error it holds no whole pack.

    Args:
        out: takes the bytes.
        commits: in any order, each once.
        snapshots: in any order, each once.
        blob_ids: which blobs the pack shall hold; any order, each once. Of a large one the list of chunks is held,
            and those of its chunks that are among ``blob_ids`` themselves.
        source: gives the blobs.
        tags: in any order, each name once.

    Raises:
        MPackFormatError: a record breaks a rule, comes twice, or is its own ancestor.
        MPackIntegrityError: a blob or a commit does not have its id.
        MPackLimitError: a text or list of a commit is too long.
        ObjectNotFoundError: the source does not have a blob.
    """
    plan = _Plan(commits, snapshots, blob_ids, source, tags)
    sealed = _SealedOutput(out)
    sealed.write(HEADER)
    blobs = _BlobWriter(sealed, plan.stored_numbers, source)
    blobs.write_all(plan.stored_order)
    lengths = [sealed.size - len(HEADER)]
    for section in (blobs.index(), *plan.record_sections()):
        sealed.write(section)
        lengths.append(len(section))
    sealed.write(encode_section_table(lengths))
    sealed.write(sealed.hash.digest())
    sealed.flush()
    return WrittenPack("sha256:" + sealed.hash.hexdigest(), sealed.size)


class _SealedOutput:
    """Hashes what passes, and passes it on in large pieces."""

    def __init__(self, out: PackOutput) -> None:
        self.hash = sha256()
        self.size = 0
        self._out = out
        self._pending: list[bytes] = []
        self._pending_size = 0

    def write(self, data: bytes) -> None:
        self.hash.update(data)
        self.size += len(data)
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= 1 << 20:
            self.flush()

    def flush(self) -> None:
        self._out.write(b"".join(self._pending))
        self._pending, self._pending_size = [], 0


class _Plan:
    """What goes where: the records checked, everything in its order and with its number."""

    def __init__(
        self,
        commits: Iterable[CommitRecord],
        snapshots: Iterable[SnapshotRecord],
        blob_ids: Iterable[str],
        source: BlobSource,
        tags: Iterable[TagRecord],
    ) -> None:
        by_id = _unique_commits(commits)
        snapshots_by_id = _unique_snapshots(snapshots)
        self._commits = [by_id[each] for each in order_commits(by_id)]
        snapshot_ids = order_snapshots(snapshots_by_id, self._commits)
        self._snapshots = [snapshots_by_id[each] for each in snapshot_ids]
        check_chains(self._snapshots)
        self._tags = sorted(map(_checked_tag, tags), key=_name)
        ids = sorted(blob_ids)
        _refuse_doubles("blob", ids)
        lists = source.chunk_lists(ids)
        self._lists = {each: lists[each] for each in sorted(lists)}
        stored = [each for each in ids if each not in lists]
        _refuse_doubles("tag", [tag["name"] for tag in self._tags])
        self.stored_order = order_blobs(stored, self._snapshots, self._lists)
        self.stored_numbers = {each: number for number, each in enumerate(stored)}
        self._blob_numbers = self.stored_numbers | {
            each: len(stored) + number for number, each in enumerate(self._lists)
        }
        self._commit_numbers = {
            each["commit_id"]: number for number, each in enumerate(self._commits)
        }
        self._snapshot_numbers = {each: number for number, each in enumerate(snapshot_ids)}
        self._foreign = self._foreign_numbers()

    def _foreign_numbers(self) -> dict[str, int]:
        named: set[str] = set()
        for commit in self._commits:
            named.update(each for each in commit["parent_ids"] if each not in self._commit_numbers)
            if commit["snapshot_id"] not in self._snapshot_numbers:
                named.add(commit["snapshot_id"])
        blobs = chunk_ids(self._lists)
        for snapshot in self._snapshots:
            parent = snapshot["parent_snapshot_id"]
            if parent is not None and parent not in self._snapshot_numbers:
                named.add(parent)
            blobs.update(blobs_in(snapshot["upsert"].values()))
        named |= blobs - self._blob_numbers.keys()
        named.update(
            tag["commit_id"] for tag in self._tags if tag["commit_id"] not in self._commit_numbers
        )
        return {check_object_id(each): number for number, each in enumerate(sorted(named))}

    def _commit_number(self, object_id: str) -> int:
        number = self._commit_numbers.get(object_id)
        return len(self._commits) + self._foreign[object_id] if number is None else number

    def _snapshot_number(self, object_id: str) -> int:
        number = self._snapshot_numbers.get(object_id)
        return len(self._snapshots) + self._foreign[object_id] if number is None else number

    def _blob_number(self, object_id: str) -> int:
        number = self._blob_numbers.get(object_id)
        return len(self._blob_numbers) + self._foreign[object_id] if number is None else number

    def record_sections(self) -> Iterable[bytes]:
        """Give the sections behind the index of blobs, in their order."""
        yield b"".join(map(digest_of, self._foreign))
        yield _id_index(self._commit_numbers)
        yield encode_groups(
            encode_commit(
                commit,
                self._snapshot_number(commit["snapshot_id"]),
                [self._commit_number(parent) for parent in commit["parent_ids"]],
            )
            for commit in self._commits
        )
        yield _id_index(self._snapshot_numbers)
        yield encode_groups(
            encode_snapshot(
                snapshot,
                None
                if snapshot["parent_snapshot_id"] is None
                else self._snapshot_number(snapshot["parent_snapshot_id"]),
                self._blob_number,
            )
            for snapshot in self._snapshots
        )
        yield encode_groups(
            encode_tag(tag, self._commit_number(tag["commit_id"])) for tag in self._tags
        )
        yield _id_index({each: number for number, each in enumerate(self._lists)})
        yield encode_groups(
            encode_chunks(chunks, self._blob_number) for chunks in self._lists.values()
        )


def _checked_tag(tag: TagRecord) -> TagRecord:
    check_members("tag", tag, TAG)
    return tag


def _name(tag: TagRecord) -> str:
    return tag["name"]


def _unique_commits(commits: Iterable[CommitRecord]) -> dict[str, CommitRecord]:
    found: dict[str, CommitRecord] = {}
    for commit in commits:
        check_members("commit", commit, COMMIT)
        check_commit(commit, _LIMITS)
        actual, stated = commit_id(commit), check_object_id(commit["commit_id"])
        if actual != stated:
            raise MPackIntegrityError("commit", stated, actual)
        if stated in found:
            raise MPackFormatError(f"commit {stated} comes twice")
        if len(set(commit["parent_ids"])) != len(commit["parent_ids"]):
            raise MPackFormatError(f"commit {stated} has a parent twice")
        found[stated] = commit
    return found


def _unique_snapshots(snapshots: Iterable[SnapshotRecord]) -> dict[str, SnapshotRecord]:
    found: dict[str, SnapshotRecord] = {}
    for snapshot in snapshots:
        check_members("snapshot", snapshot, SNAPSHOT)
        stated = check_object_id(snapshot["snapshot_id"])
        if stated in found:
            raise MPackFormatError(f"snapshot {stated} comes twice")
        for entry in snapshot["upsert"].values():
            if type(entry) is not str:
                check_entry(entry)
        found[stated] = snapshot
    return found


def _refuse_doubles(kind: str, ordered: Sequence[str]) -> None:
    for one, next_one in pairwise(ordered):
        if one == next_one:
            raise MPackFormatError(f"{kind} {one} comes twice")


def _id_index(numbers: dict[str, int]) -> bytes:
    return b"".join(
        ID_ENTRY.pack(digest_of(object_id), numbers[object_id]) for object_id in sorted(numbers)
    )


class _BlobWriter:
    """Writes the section of blobs, block by block, and collects its index."""

    def __init__(self, sealed: _SealedOutput, numbers: dict[str, int], source: BlobSource) -> None:
        self._sealed = sealed
        self._start = sealed.size
        self._numbers = numbers
        self._source = source
        self._entries = [b""] * len(numbers)
        self._block: list[tuple[str, bytes]] = []
        self._block_length = 0
        self._enough = 0

    def index(self) -> bytes:
        return b"".join(self._entries)

    def write_all(self, object_ids: Iterable[str]) -> None:
        for object_id in object_ids:
            self._add(object_id, self._content(object_id))
        self._close_block()

    def _add(self, object_id: str, content: bytes) -> None:
        size = len(content)
        if size > MAX_STORED_BYTES:
            raise MPackFormatError(
                f"blob {object_id} of {size} bytes has no list of chunks; it must have one above "
                f"{MAX_STORED_BYTES}"
            )
        if self._block_length + size > MAX_BLOCK_BYTES:
            self._close_block()
        if not self._block:
            self._enough = max(BLOCK_BYTES, BLOCK_BLOBS * size)
        self._block.append((object_id, content))
        self._block_length += size
        if self._block_length >= self._enough:
            self._close_block()

    def _close_block(self) -> None:
        """Write the block as a frame, or as it is where that is not longer."""
        if not self._block:
            return
        content = b"".join([content for _, content in self._block])
        frame = compress(content)
        stored = frame if len(frame) < len(content) else content
        offset, start = self._sealed.size - self._start, 0
        for object_id, blob in self._block:
            self._entries[self._numbers[object_id]] = BLOB_ENTRY.pack(
                digest_of(object_id), offset, len(stored), len(content), start, len(blob)
            )
            start += len(blob)
        self._sealed.write(stored)
        self._block, self._block_length = [], 0

    def _content(self, object_id: str) -> bytes:
        content = self._source.blob(object_id)
        actual = "sha256:" + sha256(content).hexdigest()
        if actual != object_id:
            raise MPackIntegrityError("blob", object_id, actual)
        return content

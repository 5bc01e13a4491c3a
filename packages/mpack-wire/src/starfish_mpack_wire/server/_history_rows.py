"""Commits, snapshots and the index of packs of one repository, read in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import msgpack  # type: ignore[import-untyped]  # it has neither types nor stubs
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_mpack_wire._history.commit_graph import CommitNode
from starfish_mpack_wire._model.chunk_lists import ChunkList, decode_chunk_list
from starfish_mpack_wire._model.entries import Entry
from starfish_mpack_wire._model.manifest import Manifest
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire.errors import DamagedHistoryError, IncompleteHistoryError
from starfish_mpack_wire.server._repos import Repo
from starfish_mpack_wire.server._rows import (
    CHUNKED,
    COMMITS,
    PACK_INDEX,
    PACKS,
    SNAPSHOTS,
    is_one_of,
    read_by_ids,
)

__all__ = ("BlobPlace", "HistoryRows", "encode_record")

_ID_COLUMNS: Final = {
    "commit": (COMMITS.c.commit_id,),
    "snapshot": (SNAPSHOTS.c.snapshot_id,),
    "blob": (PACK_INDEX.c.object_id, CHUNKED.c.object_id),
    "stored blob": (PACK_INDEX.c.object_id,),
}
_NODE = (COMMITS.c.commit_id, COMMITS.c.parent_ids, COMMITS.c.generation)


class BlobPlace(NamedTuple):
    """Where the bytes of a blob are."""

    object_id: str
    mpack_id: str
    offset: int
    """In the pack, of the block that holds it."""
    stored_bytes: int
    """Of the block; as many as ``block_bytes`` when it is stored as it is."""
    block_bytes: int
    start: int
    """In the bytes of the block."""
    size_bytes: int


class HistoryRows:
    """What one repository holds, on one connection; an `AsyncHistory`.

    Args:
        connection: its transaction decides which rows are seen.
        repo: no other repository's rows are ever seen.
    """

    def __init__(self, connection: AsyncConnection, repo: Repo) -> None:
        self._connection = connection
        self._repo = repo

    async def generations_hold(self) -> bool:
        """As the row of the repository says; pushes keep it true."""
        return self._repo.generations_hold

    async def nodes(self, commit_ids: Collection[str], /) -> Mapping[str, CommitNode]:
        """The commits of these ids that are there."""
        rows = await read_by_ids(
            self._connection, _NODE, self._repo.id, COMMITS.c.commit_id, commit_ids
        )
        return {row[0]: _node(row) for row in rows}

    async def nodes_below(self, generation: int, limit: int, /) -> Iterable[CommitNode]:
        """The first commits below a generation."""
        found = await self._connection.execute(
            select(*_NODE)
            .where(COMMITS.c.repo_id == self._repo.id, COMMITS.c.generation < generation)
            .order_by(COMMITS.c.generation.desc())
            .limit(limit)
        )
        return [_node(tuple(row)) for row in found]

    async def every_node(self) -> Mapping[str, CommitNode]:
        """The whole history."""
        found = await self._connection.execute(
            select(*_NODE).where(COMMITS.c.repo_id == self._repo.id)
        )
        return {row[0]: _node(tuple(row)) for row in found}

    async def commit_records(self, commit_ids: Collection[str], /) -> dict[str, CommitRecord]:
        """The records of commits.

        Raises:
            IncompleteHistoryError: one has no row.
        """
        rows = await read_by_ids(
            self._connection,
            (COMMITS.c.commit_id, COMMITS.c.record),
            self._repo.id,
            COMMITS.c.commit_id,
            commit_ids,
        )
        found: dict[str, CommitRecord] = await asyncio.to_thread(_decoded, rows)
        _check_all("commit", commit_ids, found)
        return found

    async def snapshot_records(self, snapshot_ids: Collection[str], /) -> dict[str, SnapshotRecord]:
        """The records of snapshots.

        Raises:
            IncompleteHistoryError: one has no row.
        """
        rows = await read_by_ids(
            self._connection,
            (SNAPSHOTS.c.snapshot_id, SNAPSHOTS.c.record),
            self._repo.id,
            SNAPSHOTS.c.snapshot_id,
            snapshot_ids,
        )
        found: dict[str, SnapshotRecord] = await asyncio.to_thread(_decoded, rows)
        _check_all("snapshot", snapshot_ids, found)
        return found

    async def snapshots_of(self, commit_ids: Collection[str], /) -> dict[str, str]:
        """Which snapshot each commit has.

        Raises:
            IncompleteHistoryError: a commit has no row.
        """
        rows = await read_by_ids(
            self._connection,
            (COMMITS.c.commit_id, COMMITS.c.snapshot_id),
            self._repo.id,
            COMMITS.c.commit_id,
            commit_ids,
        )
        found = {row[0]: row[1] for row in rows}
        _check_all("commit", commit_ids, found)
        return found

    async def known(self, kind: str, object_ids: Collection[str]) -> set[str]:
        """Which of these commits, snapshots or blobs this repository holds; a ``stored blob`` is not a large one."""
        found: set[str] = set()
        for column in _ID_COLUMNS[kind]:
            rows = await read_by_ids(self._connection, (column,), self._repo.id, column, object_ids)
            found.update(row[0] for row in rows)
        return found

    async def chunk_lists(self, object_ids: Collection[str], /) -> dict[str, ChunkList]:
        """Return the chunks of those of the blobs that are large."""
        columns = (CHUNKED.c.object_id, CHUNKED.c.chunks)
        rows = await read_by_ids(
            self._connection, columns, self._repo.id, CHUNKED.c.object_id, object_ids
        )
        return {row[0]: decode_chunk_list(row[1]) for row in rows}

    async def generations(self, commit_ids: Collection[str]) -> dict[str, int | None]:
        """The generations of the commits that are there."""
        return {each: node.generation for each, node in (await self.nodes(commit_ids)).items()}

    async def manifests(self, snapshot_ids: Collection[str], /) -> dict[str, Manifest]:
        """Whole snapshots, put together from their chains of differences.

        Raises:
            IncompleteHistoryError: a link of a chain has no row.
            DamagedHistoryError: a chain has no end.
        """
        table = SNAPSHOTS.c
        wanted = list(snapshot_ids)
        if not wanted:
            return {}
        chain = (
            select(table.snapshot_id, table.parent_snapshot_id, table.record)
            .where(
                table.repo_id == self._repo.id,
                is_one_of(self._connection, table.snapshot_id, wanted),
            )
            .cte("chain", recursive=True)
        )
        chain = chain.union(
            select(table.snapshot_id, table.parent_snapshot_id, table.record).where(
                table.repo_id == self._repo.id, table.snapshot_id == chain.c.parent_snapshot_id
            )
        )
        found = await self._connection.execute(select(chain.c.snapshot_id, chain.c.record))
        rows = [(row[0], row[1]) for row in found]
        return await asyncio.to_thread(_put_all_together, wanted, rows)

    async def places(self, object_ids: Collection[str]) -> dict[str, BlobPlace]:
        """Where the bytes of blobs are; one that has no row is left out."""
        index = PACK_INDEX.c
        columns = (
            index.object_id,
            PACKS.c.mpack_id,
            index.offset,
            index.stored_bytes,
            index.block_bytes,
            index.start,
            index.size_bytes,
        )
        rows = await read_by_ids(
            self._connection, columns, self._repo.id, index.object_id, object_ids, joined=PACKS
        )
        return {row[0]: BlobPlace(*row) for row in rows}


def _node(row: Sequence[Any]) -> CommitNode:
    commit_id, parent_ids, generation = row
    return CommitNode(commit_id, tuple(parent_ids.split()), generation)


encode_record = cast("Callable[[object], bytes]", cast("Any", msgpack).packb)
"""A record as its row holds it."""
_decode_record = cast("Callable[[bytes], Any]", cast("Any", msgpack).unpackb)


def _check_all(kind: str, wanted: Collection[str], found: Collection[str]) -> None:
    for each in wanted:
        if each not in found:
            raise IncompleteHistoryError(kind, each, "a record that names it")


def _decoded(rows: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    return {row[0]: _decode_record(row[1]) for row in rows}


def _put_all_together(
    snapshot_ids: Iterable[str], rows: Iterable[tuple[Any, ...]]
) -> dict[str, Manifest]:
    records: dict[str, SnapshotRecord] = _decoded(rows)
    return {each: _put_together(each, records) for each in snapshot_ids}


def _put_together(snapshot_id: str, records: Mapping[str, SnapshotRecord]) -> Manifest:
    chain: list[SnapshotRecord] = []
    here: str | None = snapshot_id
    while here is not None:
        if here not in records:
            raise IncompleteHistoryError("snapshot", here, snapshot_id)
        if len(chain) == len(records):
            raise DamagedHistoryError(snapshot_id, "its chain of differences does not end")
        chain.append(records[here])
        here = records[here]["parent_snapshot_id"]
    entries: dict[str, Entry] = {}
    for record in reversed(chain):
        for path in record["remove"]:
            entries.pop(path, None)
        entries.update(record["upsert"])
    return Manifest(entries, frozenset(chain[0]["directories"]), len(chain) - 1)

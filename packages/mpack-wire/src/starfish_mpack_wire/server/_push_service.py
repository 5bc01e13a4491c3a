"""Takes packs in: all of one, or nothing.

The order of one push: bytes to a file of our own, checks, bytes to their place, then one transaction for all rows and the
branch. Killed before the commit, a push leaves bytes that nothing points at; after it, everything is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_mpack_wire._history.commit_graph import generation_of
from starfish_mpack_wire._history.delta import is_ancestor
from starfish_mpack_wire._history.reading import run_async
from starfish_mpack_wire._messages import RefKind, UnpackRequest
from starfish_mpack_wire._model.chunk_lists import encode_chunk_list, length_of
from starfish_mpack_wire._model.entries import blobs_in
from starfish_mpack_wire._model.ref_names import is_ref_name
from starfish_mpack_wire.errors import (
    IncompleteHistoryError,
    InvalidMessageError,
    NonFastForwardError,
    RefConflictError,
)
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.server._fetch_service import FetchService
from starfish_mpack_wire.server._history_rows import HistoryRows, encode_record
from starfish_mpack_wire.server._pack_storage import PackStorage
from starfish_mpack_wire.server._repos import Repo, branch_head, change_refs, heads_of
from starfish_mpack_wire.server._rows import (
    CHUNKED,
    COMMITS,
    PACK_INDEX,
    PACKS,
    SNAPSHOTS,
    TAGS,
    WireRows,
    add_rows,
    hold_repo,
)
from starfish_mpack_wire.server._stored_blobs import StoredBlobs
from starfish_mpack_wire.server._unpack import (
    StoredSnapshot,
    UploadedPack,
    check_large_blobs,
    check_snapshots,
    memory_to_unpack,
    read_pack,
)
from starfish_mpack_wire.server._unpack_queue import UnpackQueue
from starfish_mpack_wire.server._uploads import Uploads, check_quota
from starfish_mpack_wire.server._work_folder import work_folder
from starfish_mpack_wire.server.errors import (
    StorageUnavailableError,
)
from starfish_protocol.clock import Clock

__all__ = ("PushService",)


class PushService:
    """Pushes to all repositories.

    Args:
        rows: histories, the index of packs, refs.
        storage: packs.
        fetches: told of packs that can be offered as they came.
        uploads: the packs that came.
        limits: caps.
        clock: what packs are dated by.
    """

    def __init__(
        self,
        *,
        rows: WireRows,
        storage: PackStorage,
        fetches: FetchService,
        uploads: Uploads,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._rows = rows
        self._fetches = fetches
        self._storage = storage
        self._uploads = uploads
        self._queue = UnpackQueue(limits.unpacking_bytes, limits.build_wait_ms / 1000)
        self._limits = limits
        self._clock = clock

    async def unpack(self, repo: Repo, request: UnpackRequest) -> dict[str, Any]:
        """Take a pack in and move the branch; all rows are on disk when this returns.

        Raises:
            InvalidMessageError: the branch's name is none, or it is not said which tip is meant.
            PackNotUploadedError: its bytes never came to this repository.
            MPackFormatError, MPackIntegrityError, MPackLimitError: they are not a pack as it must be.
            IncompleteHistoryError: something is missing from pack and repository.
            RefConflictError: the branch or a tag is somewhere else.
            NonFastForwardError: the branch would lose commits.
            StorageUnavailableError: the database or the storage failed.
        """
        _check_names(repo, request)
        mpack_id = request.mpack_id
        if mpack_id is None:
            return await self._write(repo, request, None, {}, _updates_of(request, None))
        await self._check_expectation(repo, request)
        async with work_folder() as folder:
            file = folder / "pack"
            await self._uploads.bring(repo, mpack_id, request.parts, file)
            weight = await asyncio.to_thread(memory_to_unpack, file, mpack_id, self._limits)
            async with self._queue.hold(weight):
                return await self._take_in(repo, request, mpack_id, file)

    async def _take_in(
        self, repo: Repo, request: UnpackRequest, mpack_id: str, file: Path
    ) -> dict[str, Any]:
        pack = await asyncio.to_thread(read_pack, file, mpack_id, self._limits)
        updates = _updates_of(request, pack)
        async with self._rows.reading() as connection:
            history = HistoryRows(connection, repo)
            there = await history.known("snapshot", pack.outside)
            outside = await history.manifests(there)
            there = await history.known("stored blob", pack.chunks_outside)
            chunks = await history.places(there)
        pack.refuse_missing_chunks(there)
        source = await asyncio.to_thread(StoredBlobs, self._storage, repo.id, chunks, {})
        await asyncio.to_thread(check_large_blobs, file, pack, self._limits, source)
        snapshots = await asyncio.to_thread(check_snapshots, pack, outside)
        if not request.dry_run:
            kept = self._storage.key("packs", repo.id, mpack_id)
            if await self._storage.size(kept) != pack.size_bytes:
                await self._storage.upload(kept, file)
        answer = await self._write(repo, request, pack, snapshots, updates)
        if not request.dry_run:
            with suppress(StorageUnavailableError):
                # The push is done; what fails from here on is built or swept another time.
                for each in updates:
                    if each.new is not None:
                        await self._fetches.keep_clone(repo, pack, each.new)
                await self._uploads.forget(repo, mpack_id, request.parts)
        return answer

    async def _check_expectation(self, repo: Repo, request: UnpackRequest) -> None:
        """Tell who has lost already before their pack is looked at; the transaction decides."""
        if not request.expects or request.head is None or request.branch is None:
            return
        async with self._rows.reading() as connection:
            current = await branch_head(connection, repo.id, request.branch)
        if current not in (request.expected_head, request.head):
            raise RefConflictError(request.branch, request.expected_head, current)

    async def _write(
        self,
        repo: Repo,
        request: UnpackRequest,
        pack: UploadedPack | None,
        snapshots: dict[str, StoredSnapshot],
        updates: Sequence[_Update],
    ) -> dict[str, Any]:
        written = {"commits_written": 0, "snapshots_written": 0, "blobs_written": 0}
        async with self._rows.writing() as connection:
            await hold_repo(connection, repo.id)
            push = _Push(connection, repo, self._clock)
            if pack is not None:
                if await push.is_new(pack):
                    await check_quota(connection, repo.owner, self._limits, pack.size_bytes)
                written = await push.add(pack, snapshots)
            await push.move(updates, force=request.force)
            if pack is not None:
                await push.tag(pack)
            if request.dry_run:
                await connection.rollback()
        head = next((each.new for each in updates if each.kind == "branch"), None)
        return written | {"head": head}


class _Push:
    """The rows of one push, in the transaction that holds the repository."""

    def __init__(self, connection: AsyncConnection, repo: Repo, clock: Clock) -> None:
        self._connection = connection
        self._repo = repo
        self._history = HistoryRows(connection, repo)
        self._now_ms = clock.now_ms()

    async def add(self, pack: UploadedPack, snapshots: dict[str, StoredSnapshot]) -> dict[str, int]:
        """Write the new objects of a pack, after the check that nothing it names is missing."""
        return {
            "blobs_written": await self._add_blobs(pack),
            "snapshots_written": await self._add_snapshots(snapshots),
            "commits_written": await self._add_commits(pack),
        }

    async def move(self, updates: Sequence[_Update], *, force: bool) -> None:
        """Move all refs, if each may be moved there from where it is."""
        new = {each.new for each in updates if each.new is not None}
        known = await self._history.known("commit", new)
        changes: dict[RefKind, list[tuple[str, str | None, str | None]]] = {"branch": [], "tag": []}
        kinds: set[RefKind] = {each.kind for each in updates}
        there = {kind: await heads_of(self._connection, self._repo.id, kind) for kind in kinds}
        for each in updates:
            if each.new is not None and each.new not in known:
                raise IncompleteHistoryError("commit", each.new, f"the {each.kind} {each.name}")
            current = there[each.kind].get(each.name)
            if current == each.new:
                continue
            if each.expects and each.old != current:
                raise RefConflictError(each.name, each.old, current)
            await self._check_move(each, current, force=force)
            changes[each.kind].append((each.name, current, each.new))
        for kind, some in changes.items():
            await change_refs(self._connection, self._repo.id, kind, some)

    async def _check_move(self, update: _Update, current: str | None, *, force: bool) -> None:
        if current is None or force:
            return
        if update.new is None or update.kind == "tag":
            raise RefConflictError(update.name, update.new, current)
        if not await run_async(is_ancestor(current, update.new), self._history):
            raise NonFastForwardError(update.name, update.new, current)

    async def tag(self, pack: UploadedPack) -> None:
        """Make the tags of a pack; those that are there must name the same commits."""
        if not pack.tags:
            return
        found = await self._connection.execute(
            select(TAGS.c.name, TAGS.c.commit_id).where(TAGS.c.repo_id == self._repo.id)
        )
        there = dict(map(tuple, found))
        known = await self._history.known("commit", {tag["commit_id"] for tag in pack.tags})
        new: list[dict[str, Any]] = []
        for tag in pack.tags:
            name, commit_id = tag["name"], tag["commit_id"]
            if commit_id not in known:
                raise IncompleteHistoryError("commit", commit_id, f"the tag {name}")
            if there.get(name, commit_id) != commit_id:
                raise RefConflictError(name, commit_id, there[name])
            if name not in there:
                new.append({"repo_id": self._repo.id, "name": name, "commit_id": commit_id})
        await add_rows(self._connection, TAGS, new)

    async def _add_blobs(self, pack: UploadedPack) -> int:
        here = {place.object_id for place in pack.places} | pack.lists.keys()
        named: dict[str, str] = {}
        for record in pack.snapshots:
            named.update(dict.fromkeys(blobs_in(record["upsert"].values()), record["snapshot_id"]))
        known = await self._history.known("blob", here | named.keys())
        for object_id, snapshot_id in named.items():
            if object_id not in here and object_id not in known:
                raise IncompleteHistoryError("blob", object_id, snapshot_id)
        pack_id = await self._pack_row(pack)
        new = [place for place in pack.places if place.object_id not in known]
        rows = [
            {
                "repo_id": self._repo.id,
                "object_id": place.object_id,
                "pack_id": pack_id,
                "offset": place.offset,
                "stored_bytes": place.stored_bytes,
                "block_bytes": place.block_bytes,
                "start": place.start,
                "size_bytes": place.size_bytes,
            }
            for place in new
        ]
        await add_rows(self._connection, PACK_INDEX, rows)
        large = [
            {
                "repo_id": self._repo.id,
                "object_id": object_id,
                "size_bytes": length_of(chunks),
                "chunks": encode_chunk_list(chunks),
            }
            for object_id, chunks in pack.lists.items()
            if object_id not in known
        ]
        await add_rows(self._connection, CHUNKED, large)
        return len(new) + len(large)

    async def is_new(self, pack: UploadedPack) -> bool:
        """Return whether the repository does not keep the pack yet."""
        return await self._kept_as(pack) is None

    async def _kept_as(self, pack: UploadedPack) -> int | None:
        found = await self._connection.execute(
            select(PACKS.c.id).where(
                PACKS.c.repo_id == self._repo.id, PACKS.c.mpack_id == pack.mpack_id
            )
        )
        number: int | None = found.scalar_one_or_none()
        return number

    async def _pack_row(self, pack: UploadedPack) -> int:
        pack_id = await self._kept_as(pack)
        if pack_id is not None:
            return pack_id
        values = {
            "repo_id": self._repo.id,
            "mpack_id": pack.mpack_id,
            "size_bytes": pack.size_bytes,
            "created_ms": self._now_ms,
        }
        made = await self._connection.execute(insert(PACKS).returning(PACKS.c.id), values)
        return int(made.scalar_one())

    async def _add_snapshots(self, snapshots: dict[str, StoredSnapshot]) -> int:
        known = await self._history.known("snapshot", snapshots)
        rows = [
            {
                "repo_id": self._repo.id,
                "snapshot_id": snapshot_id,
                "parent_snapshot_id": snapshot.record["parent_snapshot_id"],
                "depth": snapshot.depth,
                "record": encode_record(snapshot.record),
            }
            for snapshot_id, snapshot in snapshots.items()
            if snapshot_id not in known
        ]
        await add_rows(self._connection, SNAPSHOTS, rows)
        return len(rows)

    async def _add_commits(self, pack: UploadedPack) -> int:
        here = {commit["commit_id"] for commit in pack.commits}
        outside = {parent for each in pack.commits for parent in each["parent_ids"]} - here
        known = await self._history.nodes(here | outside)
        await self._check_snapshots_of(pack)
        generations = {each: node.generation for each, node in known.items()}
        rows: list[dict[str, Any]] = []
        for commit in pack.commits:
            commit_id, parent_ids = commit["commit_id"], commit["parent_ids"]
            for parent_id in parent_ids:
                if parent_id not in generations:
                    raise IncompleteHistoryError("commit", parent_id, commit_id)
            if commit_id in known:
                continue
            generation = generation_of(generations[each] for each in parent_ids)
            generations[commit_id] = generation
            rows.append(
                {
                    "repo_id": self._repo.id,
                    "commit_id": commit_id,
                    "generation": generation,
                    "parent_ids": " ".join(parent_ids),
                    "snapshot_id": commit["snapshot_id"],
                    "record": encode_record(commit),
                }
            )
        await add_rows(self._connection, COMMITS, rows)
        return len(rows)

    async def _check_snapshots_of(self, pack: UploadedPack) -> None:
        """Those of the pack have their rows by now."""
        known = await self._history.known(
            "snapshot", {commit["snapshot_id"] for commit in pack.commits}
        )
        for commit in pack.commits:
            if commit["snapshot_id"] not in known:
                raise IncompleteHistoryError("snapshot", commit["snapshot_id"], commit["commit_id"])


@dataclass(frozen=True, slots=True)
class _Update:
    """A ref to move, its target known."""

    kind: RefKind
    name: str
    new: str | None
    old: str | None
    expects: bool


def _check_names(repo: Repo, request: UnpackRequest) -> None:
    if request.branch is not None and not is_ref_name(request.branch):
        raise InvalidMessageError("branch is not a valid name of a branch")
    for each in request.updates:
        if not is_ref_name(each.name):
            raise InvalidMessageError(f"name in refs is not a valid name of a {each.kind}")
        if each.kind == "branch" and each.new is None and each.name == repo.default_branch:
            raise InvalidMessageError("the default branch of a repository cannot be deleted")


def _updates_of(request: UnpackRequest, pack: UploadedPack | None) -> list[_Update]:
    if request.branch is None:
        return [_Update(each.kind, each.name, each.new, each.old, True) for each in request.updates]
    head = _head_of(request, pack)
    return [_Update("branch", request.branch, head, request.expected_head, request.expects)]


def _head_of(request: UnpackRequest, pack: UploadedPack | None) -> str:
    if request.head is not None:
        return request.head
    tips = pack.tips if pack is not None else []
    if len(tips) != 1:
        raise InvalidMessageError(f"head is missing: the pack has {len(tips)} tips")
    return tips[0]

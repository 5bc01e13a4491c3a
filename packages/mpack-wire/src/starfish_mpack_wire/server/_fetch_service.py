"""Answers fetches: checks in a fixed order, then a pack that is there or one that is built.

The order: wants, then the delta, then the cache, then rows and bytes. Nothing is read for a question that an
earlier step answers; in particular, where there is nothing to send, storage is not asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starfish_mpack_wire._history.delta import Delta, compute_delta
from starfish_mpack_wire._history.pack_plan import PackPlan
from starfish_mpack_wire._history.reading import run_async
from starfish_mpack_wire._history.shallow import compute_shallow_delta
from starfish_mpack_wire._messages import BlobsRequest, FetchRequest, RefKind
from starfish_mpack_wire._model.ref_names import is_ref_name
from starfish_mpack_wire._pack.writer import WrittenPack, write_mpack
from starfish_mpack_wire.errors import (
    DamagedHistoryError,
    IncompleteHistoryError,
    MPackIntegrityError,
)
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.server._history_rows import HistoryRows
from starfish_mpack_wire.server._pack_cache import BuiltPack, PackCache
from starfish_mpack_wire.server._pack_plan import PlacedPlan, place_blobs, plan_placed_pack
from starfish_mpack_wire.server._pack_storage import PackStorage
from starfish_mpack_wire.server._repos import Repo, branch_head, heads_of
from starfish_mpack_wire.server._rows import WireRows
from starfish_mpack_wire.server._stored_blobs import StoredBlobs
from starfish_mpack_wire.server._unpack import UploadedPack
from starfish_mpack_wire.server._work_folder import work_folder
from starfish_mpack_wire.server.errors import BlobUnavailableError, UnknownWantError
from starfish_protocol.clock import Clock

__all__ = ("FetchService",)

_LEAST_BASE_SHARE = 2
"""A base must hold at least half of a clone's commits, or the clone is built whole."""

_BASE_TIPS = 64
"""Tips of a base: with more of them, it is hardly ever a part of what somebody wants."""
_REDUCED_KEPT = 1_000
_REF_KINDS: tuple[RefKind, ...] = ("branch", "tag")

_NOTHING = {
    "mpack_id": None,
    "commit_count": 0,
    "snapshot_count": 0,
    "blob_count": 0,
    "size_bytes": 0,
}


@dataclass(frozen=True, slots=True)
class _Negotiated:
    """A fetch after negotiation, before anything is built."""

    wants: tuple[str, ...]
    refs: dict[str, str]
    delta: Delta | None
    """``None`` for a clone: what it holds is known by its wants alone."""
    shallow: tuple[str, ...] | None
    unshallow: tuple[str, ...] | None


class FetchService:
    """Fetches of all repositories.

    Args:
        rows: histories and the index of packs.
        storage: packs.
        limits: caps.
        clock: what built packs are dated by.
    """

    def __init__(self, rows: WireRows, storage: PackStorage, limits: Limits, clock: Clock) -> None:
        self._rows = rows
        self._storage = storage
        self._limits = limits
        self._reduced: OrderedDict[tuple[int, str], tuple[str, ...]] = OrderedDict()
        self._cache = PackCache(rows, storage, clock, limits.build_wait_ms)

    async def fetch(self, repo: Repo, request: FetchRequest) -> dict[str, Any]:
        """The answer to a fetch, but for the URLs.

        Raises:
            UnknownWantError: the repository does not have a want.
            BlobUnavailableError: bytes are missing that the pack needs.
            PackBuildingError: the pack is not ready yet.
            DamagedHistoryError: rows are missing or contradict each other.
            StorageUnavailableError: the database or the storage failed.
        """
        try:
            return await self._fetch(repo, request)
        except IncompleteHistoryError as error:
            # Pushes let nothing in that is not complete, so this is the server's own damage.
            raise DamagedHistoryError(error.missing, str(error)) from error

    async def _fetch(self, repo: Repo, request: FetchRequest) -> dict[str, Any]:
        found = await self._negotiate(repo, request)
        answer: dict[str, Any] = {}
        if request.want_refs:
            answer["refs"] = found.refs
        if found.shallow is not None:
            answer |= {"shallow": list(found.shallow), "unshallow": list(found.unshallow or ())}
        delta, base = found.delta, None
        if delta is None and request.base:
            base, delta = await self._base_for(repo, found.wants, request)
        if request.base:
            answer["base"] = None if base is None else _offer(base)
        if delta is not None and not delta.commit_ids:
            return answer | _NOTHING
        built = await self._cache.find_or_build(
            repo,
            _cache_key(found.wants, delta, request),
            lambda: self._build_fetch(repo, found.wants, delta, request),
        )
        return answer | _offer(built)

    async def blobs(self, repo: Repo, request: BlobsRequest) -> dict[str, Any]:
        """The answer to a request for single blobs, but for the URL.

        Raises:
            UnknownWantError: the repository does not hold one of them.
            BlobUnavailableError: its bytes are gone.
            PackBuildingError: the pack is not ready yet.
            StorageUnavailableError: the database or the storage failed.
        """

        async def build() -> BuiltPack:
            async with self._rows.reading() as connection:
                history = HistoryRows(connection, repo)
                plan = await place_blobs(history, PackPlan(blob_ids=request.object_ids))
            return await self._build(repo, plan, None)

        async with self._rows.reading() as connection:
            known = await HistoryRows(connection, repo).known("blob", request.object_ids)
        for object_id in request.object_ids:
            if object_id not in known:
                raise UnknownWantError("blob", object_id)
        key = _digest(["blobs", sorted(request.object_ids)])
        return _offer(await self._cache.find_or_build(repo, key, build))

    async def keep_clone(self, repo: Repo, pack: UploadedPack, head: str) -> None:
        """Offer an uploaded pack to who clones, when it holds the whole history of a commit and nothing else.

        That is what a first push is; built anew, it would be the same.

        Raises:
            StorageUnavailableError: the database or the storage failed.
        """
        if not await asyncio.to_thread(pack.is_clone_of, head):
            return
        key = _cache_key([head], None, FetchRequest(want=(head,)))
        with suppress(FileNotFoundError):
            source = self._storage.key("packs", repo.id, pack.mpack_id)
            await self._storage.copy(source, self._storage.key("built", repo.id, pack.mpack_id))
            built = BuiltPack(
                pack.mpack_id,
                pack.size_bytes,
                len(pack.commits),
                len(pack.snapshots),
                len(pack.places) + len(pack.lists),
                head,
            )
            await self._cache.keep(repo, key, built)

    async def close(self) -> None:
        """End the builds that run."""
        await self._cache.close()

    async def _negotiate(self, repo: Repo, request: FetchRequest) -> _Negotiated:
        async with self._rows.reading() as connection:
            history = HistoryRows(connection, repo)
            refs: dict[str, str] = {}
            for name in request.want_refs:
                head = None
                if is_ref_name(name):
                    head = await branch_head(connection, repo.id, name)
                if head is None:
                    raise UnknownWantError("branch", name)
                refs[name] = head
            every: set[str] = set()
            if request.want_all:
                for kind in _REF_KINDS:
                    every.update((await heads_of(connection, repo.id, kind)).values())
            wants = tuple(dict.fromkeys((*request.want, *refs.values(), *sorted(every))))
            known = await history.known("commit", {*wants, *request.have})
            for each in wants:
                if each not in known:
                    raise UnknownWantError("commit", each)
            haves = [each for each in request.have if each in known]
            if request.depth is not None or request.shallow:
                parts = await run_async(
                    compute_shallow_delta(
                        wants, haves, shallow=request.shallow, depth=request.depth
                    ),
                    history,
                )
                told = request.depth is not None
                return _Negotiated(
                    wants,
                    refs,
                    parts.delta,
                    parts.shallow if told else None,
                    parts.unshallow if told else None,
                )
            delta = await run_async(compute_delta(wants, haves), history) if haves else None
            return _Negotiated(wants, refs, delta, None, None)

    async def _base_for(
        self, repo: Repo, wants: tuple[str, ...], request: FetchRequest
    ) -> tuple[BuiltPack | None, Delta | None]:
        """A pack of ancestors, and the commits after it; nothing where a whole pack is as good."""
        if request.filter is not None or request.paths:
            return None, None
        base = await self._cache.newest_clone(repo)
        if base is None or base.clone_of is None:
            return None, None
        tips = base.clone_of.split()
        if set(tips) == set(wants):
            return None, None
        async with self._rows.reading() as connection:
            history = HistoryRows(connection, repo)
            if (await run_async(compute_delta(tips, wants), history)).commit_ids:
                return None, None
            delta = await run_async(compute_delta(wants, tips), history)
        if len(delta.commit_ids) * _LEAST_BASE_SHARE > base.commit_count:
            return None, None
        return base, delta

    async def _build_fetch(
        self, repo: Repo, wants: Sequence[str], delta: Delta | None, request: FetchRequest
    ) -> BuiltPack:
        whole = delta is None
        async with self._rows.reading() as connection:
            history = HistoryRows(connection, repo)
            if delta is None:
                delta = await run_async(compute_delta(wants), history)
            plan = await plan_placed_pack(
                history,
                delta,
                blob_filter=request.filter,
                paths=request.paths,
                max_boundary_snapshots=self._limits.max_boundary_snapshots,
            )
        is_clone = whole and len(wants) <= _BASE_TIPS and not (request.filter or request.paths)
        return await self._build(repo, plan, " ".join(wants) if is_clone else None)

    async def _build(self, repo: Repo, plan: PlacedPlan, clone_of: str | None) -> BuiltPack:
        async with work_folder() as folder:
            target = folder / "pack"
            written = await asyncio.to_thread(_write, self._storage, repo.id, plan, target)
            key = self._storage.key("built", repo.id, written.mpack_id)
            await self._storage.upload(key, target)
        return BuiltPack(
            written.mpack_id,
            written.size_bytes,
            len(plan.plan.commits),
            len(plan.plan.snapshots),
            len(plan.plan.blob_ids),
            clone_of,
        )


def _write(storage: PackStorage, repo_id: int, placed: PlacedPlan, target: Path) -> WrittenPack:
    plan = placed.plan
    source = StoredBlobs(storage, repo_id, placed.places, placed.lists)
    try:
        with target.open("wb") as file:
            return write_mpack(file, plan.commits, plan.snapshots, plan.blob_ids, source)
    except MPackIntegrityError as error:
        # All of it was checked when it came: it was damaged since.
        if error.what == "blob":
            raise BlobUnavailableError(error.expected) from error
        raise DamagedHistoryError(error.expected, str(error)) from error


def _cache_key(wants: Sequence[str], delta: Delta | None, request: FetchRequest) -> str:
    """Equal for fetches that get the same pack, whatever else their clients offered."""
    parts = [str(request.filter) if request.filter else "", sorted(request.paths)]
    if delta is None:
        return _digest(["clone", sorted(wants), *parts])
    return _digest(["delta", sorted(delta.commit_ids), sorted(delta.boundary), *parts])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _offer(pack: BuiltPack) -> dict[str, Any]:
    return {
        "mpack_id": pack.mpack_id,
        "commit_count": pack.commit_count,
        "snapshot_count": pack.snapshot_count,
        "blob_count": pack.blob_count,
        "size_bytes": pack.size_bytes,
    }

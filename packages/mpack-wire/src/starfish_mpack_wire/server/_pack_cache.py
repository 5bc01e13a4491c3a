"""Packs that were built once and are offered again.

The row names the contents of a pack, the storage has its bytes; when they are gone, it is built again. Two
processes that build the same pack write the same bytes, so nobody needs to wait for another machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from starfish_mpack_wire.server._pack_storage import PackStorage
from starfish_mpack_wire.server._repos import Repo
from starfish_mpack_wire.server._rows import BUILT_PACKS, WireRows, hold_repo
from starfish_mpack_wire.server.errors import PackBuildingError
from starfish_protocol.clock import Clock

__all__ = ("BuiltPack", "PackCache")


@dataclass(frozen=True, slots=True)
class BuiltPack:
    """A pack that is in the storage."""

    mpack_id: str
    size_bytes: int
    commit_count: int
    snapshot_count: int
    blob_count: int
    clone_of: str | None = None
    """The commit whose whole history it holds."""


_COLUMNS = (
    BUILT_PACKS.c.mpack_id,
    BUILT_PACKS.c.size_bytes,
    BUILT_PACKS.c.commit_count,
    BUILT_PACKS.c.snapshot_count,
    BUILT_PACKS.c.blob_count,
    BUILT_PACKS.c.clone_of,
)


class PackCache:
    """Finds built packs, and has each built by one at a time in this process."""

    def __init__(self, rows: WireRows, storage: PackStorage, clock: Clock, wait_ms: int) -> None:
        self._rows = rows
        self._storage = storage
        self._clock = clock
        self._wait_ms = wait_ms
        self._builds: dict[tuple[int, str], asyncio.Task[BuiltPack]] = {}

    async def find(self, repo: Repo, cache_key: str) -> BuiltPack | None:
        """The pack of a key, if its bytes are there.

        Raises:
            StorageUnavailableError: nobody knows.
        """
        table = BUILT_PACKS.c
        async with self._rows.reading() as connection:
            found = await connection.execute(
                select(*_COLUMNS).where(table.repo_id == repo.id, table.cache_key == cache_key)
            )
            row = found.one_or_none()
        return None if row is None else await self._there(repo, BuiltPack(*row))

    async def newest_clone(self, repo: Repo) -> BuiltPack | None:
        """The newest pack that holds the whole history of a commit."""
        table = BUILT_PACKS.c
        async with self._rows.reading() as connection:
            found = await connection.execute(
                select(*_COLUMNS)
                .where(table.repo_id == repo.id, table.clone_of.is_not(None))
                .order_by(table.created_ms.desc(), table.cache_key)
                .limit(1)
            )
            row = found.one_or_none()
        return None if row is None else await self._there(repo, BuiltPack(*row))

    async def _there(self, repo: Repo, pack: BuiltPack) -> BuiltPack | None:
        size = await self._storage.size(self._storage.key("built", repo.id, pack.mpack_id))
        return pack if size == pack.size_bytes else None

    async def find_or_build(
        self, repo: Repo, cache_key: str, build: Callable[[], Awaitable[BuiltPack]]
    ) -> BuiltPack:
        """The pack of a key, built now when there is none.

        A request while it is being built waits for that build, and not longer than the limit; the build goes on.

        Raises:
            PackBuildingError: it takes longer.
            MPackError: what the build raised.
        """
        task = self._builds.get((repo.id, cache_key))
        if task is None:
            found = await self.find(repo, cache_key)
            if found is not None:
                return found
            task = self._builds.get((repo.id, cache_key))
        if task is None:
            task = asyncio.create_task(self._build(repo, cache_key, build))
            self._builds[repo.id, cache_key] = task
            task.add_done_callback(lambda done: self._forget(repo.id, cache_key, done))
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._wait_ms / 1000)
        except TimeoutError:
            raise PackBuildingError from None

    def _forget(self, repo_id: int, cache_key: str, task: asyncio.Task[BuiltPack]) -> None:
        del self._builds[repo_id, cache_key]
        if not task.cancelled():
            task.exception()  # a request that waited has it; perhaps none did

    async def _build(
        self, repo: Repo, cache_key: str, build: Callable[[], Awaitable[BuiltPack]]
    ) -> BuiltPack:
        built = await build()
        await self.keep(repo, cache_key, built)
        return built

    async def keep(self, repo: Repo, cache_key: str, built: BuiltPack) -> None:
        """Note the contents of a pack whose bytes are in the storage.

        Raises:
            StorageUnavailableError: the database failed.
        """
        values = {
            "repo_id": repo.id,
            "cache_key": cache_key,
            "mpack_id": built.mpack_id,
            "size_bytes": built.size_bytes,
            "commit_count": built.commit_count,
            "snapshot_count": built.snapshot_count,
            "blob_count": built.blob_count,
            "clone_of": built.clone_of,
            "created_ms": self._clock.now_ms(),
        }
        table = BUILT_PACKS.c
        async with self._rows.writing() as connection:
            await hold_repo(connection, repo.id)
            await connection.execute(
                delete(BUILT_PACKS).where(table.repo_id == repo.id, table.cache_key == cache_key)
            )
            await connection.execute(insert(BUILT_PACKS), values)

    async def close(self) -> None:
        """End the builds that run."""
        tasks = list(self._builds.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

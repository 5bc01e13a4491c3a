"""Packs on their way in: as a whole or in parts, each under the hash of its bytes, so that a push goes on where it broke off.

An upload is looked at only after it was copied to a file of our own, with its hash compared.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_mpack_wire._messages import PresignRequest
from starfish_mpack_wire._model.object_ids import object_id_of
from starfish_mpack_wire.errors import MPackIntegrityError
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.server._pack_storage import PackStorage
from starfish_mpack_wire.server._repos import Repo
from starfish_mpack_wire.server._rows import PACKS, REPOS, WireRows
from starfish_mpack_wire.server._work_folder import work_folder
from starfish_mpack_wire.server.errors import (
    PackNotUploadedError,
    QuotaExceededError,
    RequestTooLargeError,
)

__all__ = ("Uploads", "check_quota")


async def check_quota(
    connection: AsyncConnection, owner: str, limits: Limits, new_bytes: int
) -> None:
    """Return if an owner may keep so many bytes more.

    Raises:
        QuotaExceededError: the packs of all repositories of the owner would be over the cap.
    """
    if not limits.max_owner_bytes:
        return
    if connection.dialect.name != "sqlite":
        # Two repositories of one owner are not held by the same row.
        lock = func.pg_advisory_xact_lock(func.hashtextextended(f"mpack owner {owner}", 0))
        await connection.execute(select(lock))
    found = await connection.execute(
        select(func.coalesce(func.sum(PACKS.c.size_bytes), 0))
        .select_from(PACKS.join(REPOS, PACKS.c.repo_id == REPOS.c.id))
        .where(REPOS.c.owner == owner)
    )
    kept = int(found.scalar_one())
    if kept + new_bytes > limits.max_owner_bytes:
        raise QuotaExceededError(owner, kept, new_bytes, limits.max_owner_bytes)


class Uploads:
    """Uploads to all repositories.

    Args:
        rows: which packs are kept.
        storage: the bytes.
        limits: caps.
    """

    def __init__(self, rows: WireRows, storage: PackStorage, limits: Limits) -> None:
        self._rows = rows
        self._storage = storage
        self._limits = limits

    async def where_to(self, repo: Repo, asked: PresignRequest) -> list[str | None]:
        """Return the key for the pack, or for each of its parts; ``None`` for bytes that are there.

        Raises:
            RequestTooLargeError: the pack is over the cap.
            QuotaExceededError: the owner has no room for it.
            StorageUnavailableError: the database or the storage failed.
        """
        if asked.size_bytes > self._limits.max_pack_bytes:
            raise RequestTooLargeError("pack", self._limits.max_pack_bytes)
        count = max(len(asked.parts), 1)
        if await self._is_here(repo, asked.mpack_id):
            kept = await self._storage.size(self._storage.key("packs", repo.id, asked.mpack_id))
            if kept == asked.size_bytes:
                return [None] * count
        async with self._rows.reading() as connection:
            await check_quota(connection, repo.owner, self._limits, asked.size_bytes)
        if not asked.parts:
            return [self._key(repo, asked.mpack_id)]
        found: list[str | None] = []
        for part in asked.parts:
            key = self._key(repo, part.part_id)
            found.append(None if await self._storage.size(key) == part.size_bytes else key)
        return found

    async def receive(
        self, repo: Repo, upload_id: str, size_bytes: int, pieces: AsyncIterator[bytes]
    ) -> None:
        """Keep uploaded bytes that have the announced id; on disk when this returns.

        Raises:
            MPackIntegrityError: they have another id or size; nothing is kept.
            RequestTooLargeError: they are more than was announced.
            StorageUnavailableError: the storage failed.
        """
        found = hashlib.sha256()
        size = 0
        async with work_folder() as folder:
            target = folder / "upload"
            file = await asyncio.to_thread(target.open, "wb")
            try:
                async for piece in pieces:
                    size += len(piece)
                    await asyncio.to_thread(_write, file, found, piece)
            finally:
                await asyncio.to_thread(file.close)
            actual = object_id_of(found.digest())
            if actual != upload_id or size != size_bytes:
                raise MPackIntegrityError("upload", upload_id, f"{actual} of {size} bytes")
            await self._storage.upload(self._key(repo, upload_id), target)

    async def bring(self, repo: Repo, mpack_id: str, parts: Sequence[str], target: Path) -> None:
        """Copy a pack to a file of our own: bytes that are checked there cannot change afterwards.

        Raises:
            PackNotUploadedError: it, or a part of it, never came to this repository.
            MPackIntegrityError: the storage took other bytes for a part; they are gone, and can be sent again.
            RequestTooLargeError: it is over the cap.
            StorageUnavailableError: the storage failed.
        """
        # Without a row, bytes in the place of packs are left over from a push that never ended.
        kept = self._storage.key("packs", repo.id, mpack_id)
        if parts:
            missing = await self._join(repo, parts, target)
            if missing is None:
                return
        else:
            missing = mpack_id
            uploaded = self._key(repo, mpack_id)
            await self._refuse_size(await self._storage.size(uploaded))
            if await self._storage.download(uploaded, target):
                return
        if not await self._is_here(repo, mpack_id) or not await self._storage.download(
            kept, target
        ):
            raise PackNotUploadedError(missing)

    async def forget(self, repo: Repo, mpack_id: str, parts: Sequence[str]) -> None:
        """Remove an upload that was taken in.

        Raises:
            StorageUnavailableError: the storage failed.
        """
        for each in parts or (mpack_id,):
            await self._storage.delete(self._key(repo, each))

    async def _join(self, repo: Repo, parts: Sequence[str], target: Path) -> str | None:
        """Put the parts together; returns the first one that is not there."""
        total = 0
        file = await asyncio.to_thread(target.open, "wb")
        try:
            for part in parts:
                key = self._key(repo, part)
                size = await self._storage.size(key)
                if size is None:
                    return part
                total += size
                await self._refuse_size(total)
                found = hashlib.sha256()
                async for piece in self._storage.stream(key, 0, size):
                    await asyncio.to_thread(_write, file, found, piece)
                actual = object_id_of(found.digest())
                if actual != part:
                    await self._storage.delete(key)
                    raise MPackIntegrityError("a part of the upload", part, actual)
        finally:
            await asyncio.to_thread(file.close)
        return None

    async def _refuse_size(self, size: int | None) -> None:
        if size is not None and size > self._limits.max_pack_bytes:
            raise RequestTooLargeError("pack", self._limits.max_pack_bytes)

    async def _is_here(self, repo: Repo, mpack_id: str) -> bool:
        async with self._rows.reading() as connection:
            found = await connection.execute(
                select(PACKS.c.id).where(PACKS.c.repo_id == repo.id, PACKS.c.mpack_id == mpack_id)
            )
            return found.one_or_none() is not None

    def _key(self, repo: Repo, upload_id: str) -> str:
        return self._storage.key("uploads", repo.id, upload_id)


def _write(file: Any, digest: Any, piece: bytes) -> None:
    digest.update(piece)
    file.write(piece)

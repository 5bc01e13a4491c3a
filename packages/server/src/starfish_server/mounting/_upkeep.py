"""What a store needs done now and then while it is served: expired documents and old changes go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starfish_protocol.clock import Clock
from starfish_server.errors import StoreError
from starfish_server.maintenance._compacting import compact_changes, expire_documents
from starfish_server.storage.object_store import ObjectStore

__all__ = ("kept_up",)

_LOG = logging.getLogger(__name__)
_EXPIRE_EVERY_S = 60.0
_COMPACT_EVERY_S = 3600.0


@asynccontextmanager
async def kept_up(
    store: ObjectStore, clock: Clock, *, retention_ms: int | None
) -> AsyncGenerator[None]:
    """Look after a store while the body runs.

    Args:
        store: that is served.
        clock: tells what has expired.
        retention_ms: tombstones that are younger stay in the log; ``None`` leaves the log as it is.
    """
    tasks = [asyncio.create_task(_expiring(store, clock), name="starfish expiry")]
    if store.changes is not None and retention_ms is not None:
        compacting = _compacting(store, clock, retention_ms)
        tasks.append(asyncio.create_task(compacting, name="starfish log compaction"))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _expiring(store: ObjectStore, clock: Clock) -> None:
    while True:
        await asyncio.sleep(_EXPIRE_EVERY_S)
        try:
            await expire_documents(store, clock)
        except StoreError as error:
            _LOG.warning("expired documents were not removed: %s", error)


async def _compacting(store: ObjectStore, clock: Clock, retention_ms: int) -> None:
    while True:
        await asyncio.sleep(_COMPACT_EVERY_S)
        try:
            removed = await compact_changes(store, clock, retention_ms=retention_ms)
        except StoreError as error:
            _LOG.warning("the change log was not compacted: %s", error)
        else:
            _LOG.info("%d changes were removed from the log", removed)

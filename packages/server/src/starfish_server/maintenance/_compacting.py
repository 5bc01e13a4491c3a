"""Remove what nobody needs: expired documents, and changes that newer ones stand for."""

from __future__ import annotations

from collections.abc import Callable

from starfish_protocol.clock import Clock
from starfish_server.storage.object_store import ObjectStore

__all__ = ("TOMBSTONE_RETENTION_MS", "compact_changes", "expire_documents")

TOMBSTONE_RETENTION_MS = 30 * 24 * 3600 * 1000
"""How long the log remembers that a document was removed, for followers that were away."""
_STEP = 500


_Progress = Callable[[int, int | None], None]


def _unwatched(_done: int, _total: int | None) -> None:
    """Nobody wants to know."""


async def expire_documents(
    store: ObjectStore, clock: Clock, *, on_progress: _Progress = _unwatched
) -> int:
    """Remove expired documents in steps, between which writes have their turn.

    Returns:
        How many were removed.

    Raises:
        StoreError: the store does not answer.
    """
    removed, count = 0, _STEP
    while count >= _STEP:
        count = await store.expire(clock.now_ms(), limit=_STEP)
        removed += count
        on_progress(removed, None)
    return removed


async def compact_changes(
    store: ObjectStore,
    clock: Clock,
    *,
    retention_ms: int = TOMBSTONE_RETENTION_MS,
    on_progress: _Progress = _unwatched,
) -> int:
    """Remove changes that newer ones stand for, and old tombstones, in steps.

    Args:
        store: in use or not.
        clock: tells the time.
        retention_ms: tombstones that are younger stay.
        on_progress: told how many are removed so far.

    Returns:
        How many were removed; 0 where the store keeps no log.

    Raises:
        StoreError: the store does not answer.
    """
    log = store.changes
    if log is None:
        return 0
    removed, count = 0, _STEP
    while count >= _STEP:
        before = clock.now_ms() - retention_ms
        count = await log.compact(tombstones_before=before, limit=_STEP)
        removed += count
        on_progress(removed, None)
    return removed

"""`LocalStore`: a history in a folder."""

from __future__ import annotations

from starfish_mpack_wire.store.maintenance import (
    DEFAULT_GRACE_MS,
    RepackReport,
    VerifyReport,
    collect_garbage,
    repack_store,
    verify_store,
)
from starfish_mpack_wire.store.pack_store import PackStore
from starfish_protocol.clock import Clock

__all__ = ("LocalStore",)


class LocalStore(PackStore):
    """A store in a folder, made when the folder is empty or not there.

    Several processes may use one folder at once. Packs never change; refs move one after the other. What a call
    wrote is on disk when it returns.

    Args:
        path: the folder, ``.mpack`` of a working tree.
        limits: caps for packs.
        lock_timeout_s: seconds to wait for another process that moves refs.

    Examples:
        >>> store = LocalStore("history")
        >>> store.state().branch, store.branches()
        ('main', {})
        >>> store.verify().problems
        ()
        >>> store.close()

    Raises:
        StoreError: the folder holds something else, or cannot be read or written.
    """

    def verify(self) -> VerifyReport:
        """Read everything and compare it with its id; check that every ref leads to a whole history.

        Raises:
            StoreError: the folder cannot be read.
        """
        return verify_store(self)

    def repack(self) -> RepackReport:
        """Put everything that the store holds into one pack; on disk when this returns.

        Snapshots become differences to those of their commit's first parent, at most 64 in a row. Until the new
        pack has its place the old ones stay.

        Raises:
            StoreError: the disk is full, or another process is at work; the store is as before.
        """
        return repack_store(self)

    def gc(self, *, grace_ms: int = DEFAULT_GRACE_MS, clock: Clock | None = None) -> RepackReport:
        """Drop what no branch or tag leads to, unless its pack came within the last ``grace_ms``.

        The grace protects what another process has brought in and not pointed a branch at yet.

        Raises:
            StoreError: the disk is full, or another process is at work; the store is as before.
        """
        return collect_garbage(self, grace_ms=grace_ms, clock=clock)

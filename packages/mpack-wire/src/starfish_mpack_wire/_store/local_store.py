"""`LocalStore`: a history in a folder."""

from __future__ import annotations

from starfish_mpack_wire._store.maintenance import (
    DEFAULT_GRACE_MS,
    RepackReport,
    collect_garbage,
    repack_store,
)
from starfish_mpack_wire._store.pack_store import PackStore
from starfish_mpack_wire._store.verify import VerifyReport, verify_store
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

    def repack(self, *, everything: bool = True) -> RepackReport:
        """Join packs; on disk when this returns.

        Snapshots become differences to those of their commit's first parent, at most 64 in a row. Until the new
        pack has its place the old ones stay. Objects that no branch or tag leads to stay in packs of their own, as
        old as they are.

        Args:
            everything: join all packs. Otherwise only the smallest, so that each pack that is left has at least
                twice the bytes of all smaller ones: a run then costs about what came in since the last one.

        Raises:
            StoreError: the disk is full, or another process is at work; the store is as before.
        """
        return repack_store(self, everything=everything)

    def gc(self, *, grace_ms: int = DEFAULT_GRACE_MS, clock: Clock | None = None) -> RepackReport:
        """Drop objects that no branch or tag leads to and that came in more than ``grace_ms`` ago.

        The grace protects objects that another process has brought in and not pointed a branch at yet. Only packs
        that hold such garbage are written again.

        Args:
            grace_ms: milliseconds that an object stays without a branch or tag; 14 days by default.
            clock: the time now.

        Raises:
            StoreError: the disk is full, or another process is at work; the store is as before.
        """
        return collect_garbage(self, grace_ms=grace_ms, clock=clock)

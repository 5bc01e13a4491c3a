"""What became of the operations: counters, and a call for each one that was not folded.

Rule: nothing is dropped without passing `Drops.report`.
"""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from starfish_projection._definition import ProjectionOp
from starfish_protocol.plugins import WriteEvent

__all__ = ("DropReason", "Drops", "FoldCounters", "OnDrop", "ProjectionStats")

logger = logging.getLogger(__name__)

DropReason = Literal[
    "target_raised",
    "target_invalid",
    "project_raised",
    "operation_invalid",
    "list_full",
    "target_not_a_list",
    "retries_exhausted",
    "store_failed",
]
"""Why an operation is not in its list.

* ``target_raised``, ``project_raised``: the application's function raised.
* ``target_invalid``: the target function returned something that is no safe storage key.
* ``operation_invalid``: ``project`` returned something else than an operation, or a value that
  JSON cannot hold.
* ``list_full``: an append to a list of ``max_items`` entries.
* ``target_not_a_list``: the target holds somebody else's document, which was left as it is.
* ``retries_exhausted``: other writers won every compare-and-swap.
* ``store_failed``: the store raised or took too long; a write that took too long may still land.
"""

OnDrop = Callable[[WriteEvent, ProjectionOp, DropReason], Awaitable[None] | None]
"""Told of each dropped operation; the operation is ``None`` when there is none yet."""


@dataclass(frozen=True, slots=True)
class ProjectionStats:
    """What a plugin has done since it was made."""

    operations: int
    """Operations that reached a list's queue."""
    folded: int
    """Operations that are in their list, those that changed nothing included."""
    writes: int
    """List documents written; less than ``folded`` where operations were folded together."""
    reads: int
    """List documents read; an append to a remembered list needs none."""
    conflicts: int
    """Compare-and-swaps that another writer won."""
    superseded: int
    """Operations replaced by that of a newer write of the same document."""
    remembered_lists: int
    """Lists in memory now."""
    remembered_bytes: int
    """About how many bytes they hold."""
    dropped: Mapping[DropReason, int]
    """Operations that were dropped, by reason; reasons that did not occur are absent."""


@dataclass(slots=True)
class FoldCounters:
    """The running numbers behind `ProjectionStats`."""

    operations: int = 0
    folded: int = 0
    writes: int = 0
    reads: int = 0
    conflicts: int = 0
    superseded: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter[DropReason])

    def snapshot(self, *, remembered_lists: int, remembered_bytes: int) -> ProjectionStats:
        """The numbers as they are now, to keep."""
        return ProjectionStats(
            operations=self.operations,
            folded=self.folded,
            writes=self.writes,
            reads=self.reads,
            conflicts=self.conflicts,
            superseded=self.superseded,
            remembered_lists=remembered_lists,
            remembered_bytes=remembered_bytes,
            dropped=MappingProxyType(dict(self.dropped)),
        )


class Drops:
    """Counts, logs and passes on the operations that are not in their list."""

    def __init__(self, counters: FoldCounters, on_drop: OnDrop | None) -> None:
        self._counters = counters
        self._on_drop = on_drop

    async def report(
        self,
        event: WriteEvent,
        op: ProjectionOp,
        reason: DropReason,
        *,
        detail: str,
        target: str | None = None,
        error: Exception | None = None,
    ) -> None:
        """Make a drop known; never raises, whatever ``on_drop`` does."""
        self._counters.dropped[reason] += 1
        logger.warning(
            "write of collection %r at sequence %s is not in list %r: %s: %s",
            event.collection,
            event.sequence,
            target,
            reason,
            detail,
            exc_info=error,
        )
        if self._on_drop is None:
            return
        try:
            answer = self._on_drop(event, op, reason)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            logger.exception("on_drop raised for a write of collection %r", event.collection)

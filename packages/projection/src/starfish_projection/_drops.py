"""What became of the operations: counters, and a call for each one that was not folded.

Rule: nothing is dropped without passing `Drops.report`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from starfish_projection._contained import (
    ApplicationRaisedError,
    ApplicationTimedOutError,
    call_contained,
)
from starfish_projection._definition import ProjectionOp
from starfish_protocol.plugins import WriteEvent

__all__ = ("DropReason", "Drops", "FoldCounters", "ListStats", "OnDrop", "ProjectionStats")

logger = logging.getLogger(__name__)

_ON_DROP_S = 10.0
"""How long ``on_drop`` may take."""

DropReason = Literal[
    "target_raised",
    "target_invalid",
    "project_raised",
    "project_timed_out",
    "operation_invalid",
    "list_full",
    "target_not_a_list",
    "retries_exhausted",
    "store_failed",
]
"""Why an operation is not in its list.

* ``target_raised``, ``project_raised``: the application's function raised.
* ``project_timed_out``: the application's function did not return in time.
* ``target_invalid``: the target function returned something that is not a safe storage key.
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
    is_folding: bool = False
    """Whether this process is the one that folds now; with a change log one at a time is."""
    sequence: int = 0
    """Change of the store's log up to which everything is folded, parked or pending."""
    lag_changes: int = 0
    """Changes of the log after that, as far as this process knows."""
    lag_ms: int = 0
    """For how long there have been such changes without a pause, in milliseconds."""
    parked: int = 0
    """Writes that wait for `ProjectionPlugin.retry_parked`, or for their list to be writable."""
    late: int = 0
    """Pushes that were answered before their operation was in the list, as it took too long."""
    lists: Mapping[str, ListStats] = field(default_factory=dict[str, "ListStats"])
    """By target; the lists that were written last, a bounded number of them."""


@dataclass(frozen=True, slots=True)
class ListStats:
    """What a plugin has done to one list."""

    folded: int
    """Operations that are in the list."""
    rewritten: int
    """Times that the list was written."""
    coalesced: int
    """Operations that shared a rewrite with another one."""
    waiting: int
    """Operations that wait now."""
    dropped: int
    """Operations that were dropped."""


@dataclass(slots=True)
class _ListCounters:
    folded: int = 0
    rewritten: int = 0
    coalesced: int = 0
    waiting: int = 0
    dropped: int = 0


_MAX_LISTS = 1000
"""Lists whose numbers are kept; the one that was not used for longest goes first."""


@dataclass(slots=True)
class FoldCounters:
    """The running numbers behind `ProjectionStats`."""

    operations: int = 0
    folded: int = 0
    writes: int = 0
    reads: int = 0
    conflicts: int = 0
    superseded: int = 0
    entries_put: int = 0
    entries_removed: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter[DropReason])
    is_folding: bool = False
    sequence: int = 0
    log_sequence: int = 0
    parked: int = 0
    late: int = 0
    lists: dict[str, _ListCounters] = field(default_factory=dict[str, _ListCounters])
    _behind_since: float | None = None

    def of_list(self, target: str) -> _ListCounters:
        """The numbers of one list."""
        found = self.lists.pop(target, None) or _ListCounters()
        self.lists[target] = found
        if len(self.lists) > _MAX_LISTS:
            del self.lists[next(iter(self.lists))]
        return found

    def moved(self, sequence: int, log_sequence: int) -> None:
        """Note how far the log is folded, and how far it reaches."""
        self.sequence = sequence
        self.log_sequence = max(log_sequence, sequence)
        if self.log_sequence == sequence:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = time.monotonic()

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
            is_folding=self.is_folding,
            sequence=self.sequence,
            lag_changes=self.log_sequence - self.sequence,
            lag_ms=0
            if self._behind_since is None
            else int((time.monotonic() - self._behind_since) * 1000),
            parked=self.parked,
            late=self.late,
            lists=MappingProxyType(
                {
                    target: ListStats(
                        each.folded, each.rewritten, each.coalesced, each.waiting, each.dropped
                    )
                    for target, each in self.lists.items()
                }
            ),
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
        error: BaseException | None = None,
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
            await call_contained(self._on_drop, event, op, reason, limit_s=_ON_DROP_S)
        except (ApplicationRaisedError, ApplicationTimedOutError):
            logger.exception("on_drop failed for a write of collection %r", event.collection)

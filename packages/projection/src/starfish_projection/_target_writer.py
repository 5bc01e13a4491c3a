"""One list and the operations that wait for it.

Rule 1: operations are folded in the order they arrived, in one task per list, which lives while
there is something to do. Rule 2: the compare-and-swap is the guarantee; the task and the memory
only save work. Rule 3: an operation that was accepted is folded or reported, whatever becomes of
those who wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from starfish_projection._drops import DropReason, Drops, FoldCounters
from starfish_projection._fold import fold
from starfish_projection._list_document import ListDocument, NotAListError
from starfish_projection._list_memory import ListMemory, RememberedList
from starfish_projection._list_storage import ListStorage, StoredList
from starfish_projection._projected_write import ProjectedWrite, newest
from starfish_projection._store import ListStore
from starfish_projection.errors import TargetNotAListError
from starfish_protocol.clock import Clock

__all__ = ("FoldOptions", "TargetWriters")

_READS_AT_ONCE = 64
"""Source documents that are looked at together: enough to hide a store's latency."""
_LONGEST_BACKOFF_S = 1.0
"""Longest wait between two attempts: a list that is written without pause by many processes."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldOptions:
    """Bounds of one fold."""

    max_retries: int = 8
    """Compare-and-swaps that may be lost to other writers before the operations are dropped."""
    max_items: int | None = None
    """Entries of a list beyond which appends are dropped; ``None`` for no bound."""
    timeout_ms: int = 30_000
    """How long the store may take for one fold, retries included, before its operations are dropped."""
    project_timeout_ms: int = 30_000
    """How long the application's functions may take for one write."""
    pieces_above_bytes: int | None = 64 << 10
    """Length of a list above which it is kept in pieces; ``None`` for never."""

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise ValueError(f"max_retries is {self.max_retries}; it must be at least 0")
        if self.max_items is not None and self.max_items < 1:
            raise ValueError(f"max_items is {self.max_items}; it must be None or at least 1")
        if self.timeout_ms < 1:
            raise ValueError(f"timeout_ms is {self.timeout_ms}; it must be at least 1")
        if self.pieces_above_bytes is not None and self.pieces_above_bytes < 1:
            raise ValueError(
                f"pieces_above_bytes is {self.pieces_above_bytes}; it must be None or at least 1"
            )
        if self.project_timeout_ms < 1:
            raise ValueError(
                f"project_timeout_ms is {self.project_timeout_ms}; it must be at least 1"
            )


@dataclass(frozen=True, slots=True)
class _Waiting:
    written: ProjectedWrite
    outcome: asyncio.Future[DropReason | None]
    is_ordered: bool
    is_quiet: bool


class TargetWriters:
    """Folds operations into lists, those of one list one batch at a time."""

    def __init__(
        self,
        store: ListStore,
        *,
        options: FoldOptions,
        memory: ListMemory,
        counters: FoldCounters,
        drops: Drops,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self._store = store
        self._lists = ListStorage(store, pieces_above_bytes=options.pieces_above_bytes)
        self._options = options
        self._memory = memory
        self._counters = counters
        self._drops = drops
        self._clock = clock
        self._rng = random.Random() if rng is None else rng  # noqa: S311 - jitter, not a secret
        self._queues: dict[str, list[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(
        self, writes: Sequence[ProjectedWrite], *, is_ordered: bool = False, is_quiet: bool = False
    ) -> list[asyncio.Future[DropReason | None]]:
        """Queue operations; each future tells ``None`` once its list holds the operation.

        Cancelling a future takes nothing back: the operation is folded all the same.

        Args:
            writes: what to fold.
            is_ordered: the writes of one document come in their order, so that none has to be
                compared with the stored document.
            is_quiet: a drop is told to the caller only.
        """
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[DropReason | None]] = []
        for written in writes:
            waiting = _Waiting(written, loop.create_future(), is_ordered, is_quiet)
            futures.append(waiting.outcome)
            self._counters.of_list(written.target).waiting += 1
            queue = self._queues.get(written.target)
            if queue is None:
                self._queues[written.target] = [waiting]
                self.start(self._drain(written.target))
            else:
                queue.append(waiting)
        self._counters.operations += len(futures)
        return futures

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run work that `settle` waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self) -> None:
        """Wait until everything that was accepted is folded or reported."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def cut_off(self) -> None:
        """End the operations still under way; the callers are let go."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    async def read_list(self, target: str) -> ListDocument | None:
        """The list as it is stored, ``None`` when there is none.

        Raises:
            TargetNotAListError: the target holds something else.
        """
        stored = await self._stored(target)
        return None if stored is None else stored.document

    async def sweep(self, target: str) -> None:
        """Delete what writers that died left of a list."""
        await self._lists.sweep(target, self._clock.now_ms())

    async def _drain(self, target: str) -> None:
        batch: list[_Waiting] = []
        try:
            while batch := self._queues[target]:
                self._queues[target] = []
                await self._fold_or_drop(target, batch)
        finally:
            # Both are empty unless this task was cancelled, as an event loop does when it ends.
            unfinished = [*batch, *self._queues.pop(target)]
            if unfinished:
                logger.warning("%d operations on list %r were cut off", len(unfinished), target)
            for waiting in unfinished:
                waiting.outcome.cancel()

    async def _fold_or_drop(self, target: str, batch: Sequence[_Waiting]) -> None:
        dropped: dict[int, tuple[DropReason, str]] = {}
        everything = range(len(batch))
        try:
            async with asyncio.timeout(self._options.timeout_ms / 1000) as budget:
                refused = await self._fold(target, batch, budget)
            full = f"it has {self._options.max_items} entries"
            dropped = dict.fromkeys(refused, ("list_full", full))
        except TargetNotAListError as error:
            dropped = dict.fromkeys(everything, ("target_not_a_list", error.rule))
        except _RetriesExhaustedError as error:
            dropped = dict.fromkeys(everything, ("retries_exhausted", str(error)))
        except Exception as error:
            logger.exception("folding %d operations into list %r failed", len(batch), target)
            dropped = dict.fromkeys(everything, ("store_failed", type(error).__name__))
        numbers = self._counters.of_list(target)
        numbers.waiting -= len(batch)
        numbers.folded += len(batch) - len(dropped)
        numbers.dropped += len(dropped)
        numbers.coalesced += max(len(batch) - len(dropped) - 1, 0)
        for index, waiting in enumerate(batch):
            if index in dropped and waiting.is_quiet:
                _resolve(waiting, dropped[index][0])
            elif index in dropped:
                # In a task of its own: on_drop may push again to this very list.
                self.start(self._drop(waiting, *dropped[index]))
            else:
                self._counters.folded += 1
                _resolve(waiting, None)

    async def _fold(
        self, target: str, batch: Sequence[_Waiting], budget: asyncio.Timeout
    ) -> frozenset[int]:
        """Fold a batch; the positions of those that found the list full are returned."""
        clock = asyncio.get_running_loop().time
        for attempt in range(self._options.max_retries + 1):
            started = clock()
            remembered = self._memory.take(target)
            expected: str | None
            if remembered is not None:
                document, expected = remembered.document, remembered.etag
            else:
                document, expected = await self._load(target)
            # After the list's version is fixed and before it is swapped: a newer write that is
            # committed in between folds later than this one, or makes the swap below fail.
            current = await self._newest(batch, budget)
            result = fold(
                document, [write.operation for write in current], max_items=self._options.max_items
            )
            if result.changed:
                etag = await self._lists.write(target, document, self._clock.now_ms(), expected)
                swapped = etag is not None
                self._counters.writes += swapped
                self._counters.of_list(target).rewritten += swapped
                if swapped:
                    self._counters.entries_put += result.put
                    self._counters.entries_removed += result.removed
            else:
                # Nothing to write is only true if the remembered list is the stored one.
                etag = expected
                swapped = remembered is None or etag == await self._stored_etag(target)
            if swapped:
                if etag is not None:
                    self._memory.keep(target, RememberedList(document, etag))
                self._counters.superseded += sum(
                    write is not older.written for write, older in zip(current, batch, strict=True)
                )
                return result.refused
            self._counters.conflicts += 1
            if remembered is None and attempt < self._options.max_retries:
                # Fresh from the store and still too late. Another process folds without pause,
                # and from memory, so it is always faster: outlast it.
                longest = (clock() - started) * 2 ** min(attempt + 1, 20)
                longest = min(longest, _LONGEST_BACKOFF_S)
                await asyncio.sleep(self._rng.uniform(longest / 2, longest))
        raise _RetriesExhaustedError(
            f"other writers won {self._options.max_retries + 1} compare-and-swaps in a row"
        )

    async def _newest(
        self, batch: Sequence[_Waiting], budget: asyncio.Timeout
    ) -> list[ProjectedWrite]:
        current = [waiting.written for waiting in batch]
        unordered = [index for index, waiting in enumerate(batch) if not waiting.is_ordered]
        if not unordered:
            return current
        # What the application takes for it is not the store's time.
        loop = asyncio.get_running_loop()
        left = (budget.when() or 0.0) - loop.time()
        limit_s = self._options.project_timeout_ms / 1000
        budget.reschedule(loop.time() + left + limit_s)
        for start in range(0, len(unordered), _READS_AT_ONCE):
            chunk = unordered[start : start + _READS_AT_ONCE]
            found = await asyncio.gather(
                *(newest(self._store, current[index], limit_s=limit_s) for index in chunk)
            )
            for index, written in zip(chunk, found, strict=True):
                current[index] = written
        budget.reschedule(loop.time() + left)
        return current

    async def _load(self, target: str) -> tuple[ListDocument, str | None]:
        stored = await self._stored(target)
        return (ListDocument(), None) if stored is None else (stored.document, stored.etag)

    async def _stored(self, target: str) -> StoredList | None:
        self._counters.reads += 1
        try:
            return await self._lists.read(target)
        except NotAListError as error:
            raise TargetNotAListError(target, str(error)) from error

    async def _stored_etag(self, target: str) -> str | None:
        self._counters.reads += 1
        return await self._lists.etag(target)

    async def _drop(self, waiting: _Waiting, reason: DropReason, detail: str) -> None:
        written = waiting.written
        await self._drops.report(
            written.event, written.op, reason, detail=detail, target=written.target
        )
        _resolve(waiting, reason)


class _RetriesExhaustedError(Exception):
    pass


def _resolve(waiting: _Waiting, outcome: DropReason | None) -> None:
    if not waiting.outcome.done():
        waiting.outcome.set_result(outcome)

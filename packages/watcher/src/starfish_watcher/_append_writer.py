"""The one thread that writes: it commits all that waits as one group.

The order of one group: take, write and commit, publish, answer. While a group is on its way to
the disk the next one collects, so that many producers share an fsync.

Rule 1: every append that was taken is answered, whatever happens. Rule 2: an error that is about
one append is the answer to that one; an error that nobody expects ends the writer, and everybody
who waits learns of it. Rule 3: all that was committed is answered, also when telling watchers failed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from starfish_watcher._fork_guard import ForkGuard
from starfish_watcher._limits import FLUSH_INTERVAL_S, MAX_GROUP_BYTES, MAX_GROUP_EVENTS
from starfish_watcher._model.event import Event
from starfish_watcher._model.new_event import Durability, PreparedEvent
from starfish_watcher._model.receipt import Receipt
from starfish_watcher._supervised_thread import start_thread
from starfish_watcher.errors import (
    StoreClosed,
    StoreFullError,
    StoreUnavailableError,
    WatcherError,
)
from starfish_watcher.fault_points import FaultPoints
from starfish_watcher.log.base import AppendResult, EventLog, Outcome, Stamp

__all__ = ("AppendWriter", "PendingAppend")

logger = logging.getLogger(__name__)
STRENGTH: Final[dict[Durability, int]] = {"none": 0, "batched": 1, "commit": 2}


class PendingAppend:
    """An append that waits for its answer."""

    __slots__ = ("answered", "durability", "items", "outcome", "size")

    def __init__(
        self,
        items: Sequence[PreparedEvent],
        durability: Durability,
        answered: Callable[[], object],
    ) -> None:
        self.items = items
        self.durability: Durability = durability
        self.size = sum(len(item.payload_bytes) for item in items)
        self.outcome: Outcome | None = None
        self.answered = answered
        """Called once, by the writer's thread, when ``outcome`` is there; must not block."""

    def answer(self, outcome: Outcome) -> None:
        """Set the outcome and wake the caller."""
        self.outcome = outcome
        try:
            self.answered()
        except RuntimeError:
            logger.debug("the event loop that waited for an append has ended")

    def result(self) -> tuple[Receipt, ...]:
        """The receipts.

        Raises:
            WatcherError: why nothing was written.
        """
        if isinstance(self.outcome, tuple):
            return self.outcome
        raise self.outcome or StoreClosed("the writer gave no answer")


class AppendWriter:
    """Takes appends from any thread and writes them in the order in which they came."""

    def __init__(
        self,
        log: EventLog,
        stamp: Stamp,
        *,
        publish: Callable[[Sequence[Event]], None],
        catch_up: Callable[[], object],
        died: Callable[[BaseException], None],
        fault_points: FaultPoints,
    ) -> None:
        self._log = log
        self._stamp = stamp
        self._publish = publish
        self._catch_up = catch_up
        self._died = died
        self._fault_points = fault_points
        self._condition = threading.Condition(threading.Lock())
        self._waiting: deque[PendingAppend] = deque()
        self._closed: BaseException | None = None
        self._flush_at: float | None = None
        self._tell_at: float | None = None
        self._unflushed = False
        self._guard = ForkGuard()
        self._thread = threading.Thread(target=self._run, name="starfish-writer", daemon=True)
        start_thread(self._thread, log.location)

    def submit(self, append: PendingAppend) -> None:
        """Take an append; it will be answered.

        Raises:
            StoreClosed: nothing is taken any more.
        """
        with self._condition:
            if self._closed is not None:
                raise StoreClosed.because_of(self._closed)
            self._waiting.append(append)
            if len(self._waiting) == 1:
                self._condition.notify()

    def close(self, reason: BaseException) -> None:
        """Take nothing more, write the appends that were taken, and end; returns when that is done."""
        if self._guard.is_inherited:
            return
        with self._condition:
            if self._closed is None:
                self._closed = reason
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        group: list[PendingAppend] | None = []
        try:
            while (group := self._take()) is not None:
                if group:
                    self._commit(group)
                else:
                    self._do_what_is_due()
            if self._unflushed:
                self._log.flush()
        except BaseException as error:  # noqa: BLE001 - it is handed to everybody who waits
            with self._condition:
                self._closed = error
                group = [*(group or ()), *self._waiting]
                self._waiting.clear()
            for append in group:
                if append.outcome is None:
                    append.answer(StoreClosed.because_of(error))
            self._died(error)

    def _take(self) -> list[PendingAppend] | None:
        """The next group; an empty one when something else is due, ``None`` at the end."""
        with self._condition:
            while not self._waiting:
                if self._closed is not None:
                    return None
                due = min(
                    (at for at in (self._flush_at, self._tell_at) if at is not None), default=None
                )
                remaining = None if due is None else due - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return []
                self._condition.wait(remaining)
            group = [self._waiting.popleft()]
            events, size = len(group[0].items), group[0].size
            while self._waiting:
                events += len(self._waiting[0].items)
                size += self._waiting[0].size
                if events > MAX_GROUP_EVENTS or size > MAX_GROUP_BYTES:
                    break
                group.append(self._waiting.popleft())
            return group

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._flush_at is not None and self._flush_at <= now:
            self._flush()
        if self._tell_at is not None and self._tell_at <= now:
            self._tell_at = None
            self._tell(self._catch_up)

    def _tell(self, tell: Callable[[], object]) -> None:
        """Wake those who wait; when what they need cannot be read, do it again soon."""
        try:
            tell()
        except StoreUnavailableError as error:
            self._tell_at = time.monotonic() + FLUSH_INTERVAL_S
            logger.warning("watchers of %s are told later: %s", self._log.location, error)

    def _flush(self) -> None:
        self._flush_at = None
        try:
            self._log.flush()
        except WatcherError as error:
            self._flush_at = time.monotonic() + FLUSH_INTERVAL_S
            logger.warning("a flush of %s failed and is tried again: %s", self._log.location, error)
        else:
            self._unflushed = False

    def _commit(self, group: Sequence[PendingAppend]) -> None:
        self._fault_points.reach("before_write")
        try:
            result = self._write(group)
        except StoreFullError as error:
            if len(group) == 1:
                group[0].answer(error)
                return
            # One large append must not fail the small ones that still fit.
            for append in group:
                self._commit([append])
            return
        except WatcherError as error:
            for append in group:
                append.answer(error.own_copy())
            return
        self._fault_points.reach("after_commit")
        self._tell(partial(self._publish, result.events))
        for append, outcome in zip(group, result.outcomes, strict=True):
            append.answer(outcome)

    def _write(self, group: Sequence[PendingAppend]) -> AppendResult:
        durability: Durability = "none"
        for append in group:
            if STRENGTH[append.durability] > STRENGTH[durability]:
                durability = append.durability
        result = self._log.append(
            [append.items for append in group],
            stamp=self._stamp,
            durability=durability,
            reached=self._fault_points.reach,
        )
        self._unflushed = durability != "commit"
        if durability == "commit":
            self._flush_at = None
        elif durability == "batched" and self._flush_at is None:
            self._flush_at = time.monotonic() + FLUSH_INTERVAL_S
        return result

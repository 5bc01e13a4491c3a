"""Where the looks of asyncio watchers run: off the event loop, and one at a time.

The threads of a process share one interpreter lock, so looks side by side are not faster, and all
of them compete with those who append.

Rule 1: one thread, the leader, takes look after look; what comes meanwhile costs no switch of
threads. Rule 2: looks that wait behind one that takes long are served by another leader after
`PATIENCE_S`; while nothing moves, leaders double, so that many slow looks delay a quick one little. Rule 3: quick looks take at most a third of the leader's time, however many wait;
the rest belongs to producers, and what changes meanwhile needs one look fewer.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Final, Generic, TypeVar

__all__ = ("Lookers", "PendingLook")

T = TypeVar("T")
PATIENCE_S: Final = 0.01
"""How long others wait behind one look, at most twice that."""
STINT_S: Final = 0.002
"""After so much looking the leader pauses, also when more looks wait."""
PAUSE_SHARE: Final = 2.0
"""How long it pauses, in times of what it looked."""
MAX_PAUSE_S: Final = 0.005
"""Of the leader after a look that took long, below `PATIENCE_S`."""
MAX_LOOKERS: Final = 1024
"""Looks that may take long at the same time; the next one waits for one of them. A thread is made
only when all others are at work."""


class Lookers:
    """The threads that look for the asyncio watchers of one store; none before the first look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[PendingLook[Any]] = deque()
        self._leaders: set[object] = set()
        self._finished = 0
        self._guarded = False
        self._closed = False
        self._pool = ThreadPoolExecutor(MAX_LOOKERS, thread_name_prefix="starfish-looker")
        self._calls: _LoopCalls | None = None

    def prepare(self, look: Callable[[], T], unclaimed: Callable[[], object]) -> PendingLook[T]:
        """A look for the running event loop, to be started once and from any thread.

        ``unclaimed`` is called on the loop when the look was made and nobody waits for its
        answer any more.
        """
        loop = asyncio.get_running_loop()
        calls = self._calls
        if calls is None or calls.loop is not loop:
            self._calls = calls = _LoopCalls(loop)
        return PendingLook(self, calls, look, unclaimed)

    def submit(self, look: PendingLook[Any]) -> None:
        """Run the look in a thread, soon; never blocks. After `close` it must not take long."""
        with self._lock:
            ended = self._closed and not self._leaders
            if not ended:
                self._waiting.append(look)
                if not self._leaders:
                    self._appoint(1)
                elif not self._guarded:
                    self._guarded = True
                    self._pool.submit(self._guard)
        if ended:
            look.run()

    def _appoint(self, count: int) -> None:
        self._leaders = {object() for _ in range(count)}
        for leader in self._leaders:
            self._pool.submit(self._lead, leader)

    def _lead(self, leader: object) -> None:
        while leader in self._leaders:
            begun = time.thread_time()
            looked = 0.0
            while looked < STINT_S and (look := self._take(leader)) is not None:
                look.run()
                self._finished += 1
                looked = time.thread_time() - begun
            time.sleep(min(PAUSE_SHARE * looked, MAX_PAUSE_S))
            with self._lock:
                if leader in self._leaders and (not self._waiting or len(self._leaders) > 1):
                    self._leaders.discard(leader)
                    if self._closed and not self._leaders:
                        self._pool.shutdown(wait=False)

    def _take(self, leader: object) -> PendingLook[Any] | None:
        with self._lock:
            if leader not in self._leaders or not self._waiting:
                return None
            return self._waiting.popleft()

    def _guard(self) -> None:
        finished, count = -1, 1
        while True:
            time.sleep(PATIENCE_S)
            with self._lock:
                if not self._waiting:
                    self._guarded = False
                    return
                if self._finished == finished:
                    self._appoint(min(count, len(self._waiting)))
                    count *= 2
                else:
                    count = 1
                finished = self._finished

    def close(self) -> None:
        """End the threads when all that was submitted is answered; does not wait for that."""
        with self._lock:
            self._closed = True
            if not self._leaders:
                self._pool.shutdown(wait=False)


class PendingLook(Generic[T]):
    """One look and the future that gets what it gave; made by `Lookers.prepare`."""

    def __init__(
        self,
        lookers: Lookers,
        calls: _LoopCalls,
        look: Callable[[], T],
        unclaimed: Callable[[], object],
    ) -> None:
        self._lookers = lookers
        self._calls = calls
        self._look = look
        self._unclaimed = unclaimed
        self._context = copy_context()
        self.answer: asyncio.Future[T | None] = calls.loop.create_future()
        """What the look gave or raised; ``None`` after `give_up`."""

    def start(self) -> None:
        """Look; from any thread."""
        self._lookers.submit(self)

    def run(self) -> None:
        """Called by a looker."""
        if self.answer.done():
            return
        try:
            found = self._context.run(self._look)
        except BaseException as error:  # noqa: BLE001 - it is handed to the caller
            self._calls.call(partial(self._settle, self.answer.set_exception, error))
        else:
            self._calls.call(partial(self._settle, self.answer.set_result, found))

    def _settle(self, settle: Callable[[Any], None], outcome: object) -> None:
        if self.answer.done():
            self._unclaimed()
        else:
            settle(outcome)

    def give_up(self) -> None:
        """On the loop: answer with ``None`` if there is no answer yet."""
        if not self.answer.done():
            self.answer.set_result(None)


class _LoopCalls:
    """Calls functions on an event loop, any number for one wake-up of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: deque[Callable[[], object]] = deque()
        self._woken = False

    def call(self, function: Callable[[], object]) -> None:
        self._waiting.append(function)
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop ended while its task slept
                self.loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        # Taken down first: who adds a function from now on wakes the loop again.
        self._woken = False
        while self._waiting:
            self._waiting.popleft()()

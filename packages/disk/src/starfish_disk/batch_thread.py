"""A thread that serves event loops and other threads in batches.

Handing each blocking call to an executor costs two thread switches a call. Here the thread takes
all calls that wait, answers them together, and wakes each event loop once. There is no artificial
wait: a lone call is a batch of one. Rule 1: a call that was submitted is settled, whatever happens.
Rule 2: the thread knows no store, so that a store dropped without `close` is collected, and its
thread with it. Rule 3: nothing takes a lock before it knows that it is not in a forked child, where
another thread of the parent may hold that lock for ever.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from starfish_disk.errors import (
    BatchFailedError,
    ClosedError,
    DiskError,
    ForkedError,
    ShortageError,
)

__all__ = ("BatchThread", "BatchWorker", "Call")

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_ResourceT = TypeVar("_ResourceT")
_ResourceT_co = TypeVar("_ResourceT_co", covariant=True)
_ResourceT_contra = TypeVar("_ResourceT_contra", contravariant=True)

_MAX_BATCH: Final = 1024
"""Calls taken together at most, so that the first of a flood is not answered with the last."""

_Future: TypeAlias = "asyncio.Future[Any] | concurrent.futures.Future[Any]"


class Call(Generic[_ResourceT_contra]):
    """One call that waits: its operation on the worker's resource, and its future."""

    __slots__ = ("error", "future", "operation", "result")

    def __init__(self, operation: Callable[[_ResourceT_contra], Any], future: _Future) -> None:
        self.operation = operation
        """To be done once, by the worker."""
        self.future = future
        """Of an event loop, or for a thread that waits."""
        self.result: Any = None
        """Set by the worker."""
        self.error: BaseException | None = None
        """Set by the worker; goes before a result."""

    def begin(self) -> bool:
        """Whether it is still wanted; a call of a thread cannot be cancelled from here on."""
        if isinstance(self.future, concurrent.futures.Future):
            return self.future.set_running_or_notify_cancel()
        return not self.future.cancelled()

    def settle(self) -> None:
        """Tell the caller; on the event loop of the future, when it has one."""
        if self.future.done():  # cancelled in the meantime
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class BatchWorker(Protocol[_ResourceT_co]):
    """The work of a thread; all of it runs in that thread, one thing at a time."""

    def run(self, calls: Sequence[Call[_ResourceT_co]]) -> None:
        """Set ``result`` or ``error`` of every call.

        A `DiskError` that is raised is the error of every call; any other exception becomes a
        `BatchFailedError`, and the thread goes on.
        """
        ...

    def tick(self) -> None:
        """Do the regular work; an exception is logged, and the thread goes on."""
        ...

    def finish(self) -> None:
        """Release all that is held; nothing runs afterwards."""
        ...


class BatchThread(Generic[_ResourceT]):
    """Runs a worker in a thread of its own; a daemon, so that it never holds up the exit.

    The thread begins with the first call, which raises `ShortageError` where the system has none
    left; a later call tries again. In a process that was forked later every method raises
    `ForkedError` at once.

    Args:
        name: of the thread, for those who look at a stack dump, and of the errors.
        worker: must hold no reference to the object that holds this one.
        tick_s: seconds between two ticks of the worker, begun with the first call; ``None`` for no
            ticks.

    Examples:
        >>> class Counter:
        ...     total = 0
        ...     def run(self, calls: Sequence[Call["Counter"]]) -> None:
        ...         for call in calls:
        ...             call.result = call.operation(self)
        ...     def add(self, n: int) -> int:
        ...         self.total += n
        ...         return self.total
        ...     def tick(self) -> None: ...
        ...     def finish(self) -> None: ...
        >>> thread = BatchThread("counter", Counter())
        >>> thread.call(lambda counter: counter.add(2)), thread.call(lambda counter: counter.add(3))
        (2, 5)
        >>> thread.close()
    """

    def __init__(
        self, name: str, worker: BatchWorker[_ResourceT], *, tick_s: float | None = None
    ) -> None:
        self.name = name
        """Of the thread."""
        self._worker = worker
        self._tick_s = tick_s
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._queue: _Queue[_ResourceT] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stop: _Stop | None = None

    def submit(self, operation: Callable[[_ResourceT], _T]) -> asyncio.Future[_T]:
        """Have the operation done; the future is settled on the running event loop.

        When the future is cancelled, the operation is done or not, never in part.

        Raises:
            ClosedError: in the future: the thread was stopped.
            ForkedError: this process was forked from the one that made this object.
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._put(Call(operation, future))
        return future

    def submit_from_thread(
        self, operation: Callable[[_ResourceT], _T]
    ) -> concurrent.futures.Future[_T]:
        """Have the operation done; the future may be waited for in any thread.

        It can be cancelled until the thread takes it up.

        Raises:
            ClosedError: in the future: the thread was stopped.
            ForkedError: this process was forked from the one that made this object.
        """
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        self._put(Call(operation, future))
        return future

    def call(self, operation: Callable[[_ResourceT], _T]) -> _T:
        """Do the operation and wait for it; not on an event loop, nor in the worker.

        When the wait is interrupted (Ctrl-C), the operation is done or not, never in part.

        Raises:
            ClosedError: the thread was stopped.
            ForkedError: this process was forked from the one that made this object.
        """
        future = self.submit_from_thread(operation)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
        finally:
            del future  # or it and its exception would hold each other

    def stop(self) -> asyncio.Future[None]:
        """Have the thread end after the calls that were submitted; settled when all is released.

        Stopping twice is harmless.

        Raises:
            DiskError: in the future: the worker could not release everything.
            ForkedError: this process was forked from the one that made this object.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop_for(future)
        return future

    def close(self) -> None:
        """As `stop`, and wait; not on an event loop.

        Raises:
            DiskError: the worker could not release everything.
            ForkedError: this process was forked from the one that made this object.
        """
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._stop_for(future)
        future.result()

    def _put(self, call: Call[_ResourceT]) -> None:
        self._refuse_in_a_child()
        with self._lock:
            if self._stop is None:
                if self._thread is None:
                    self._start()
                self._queue.put(call)
                return
        call.error = ClosedError(self.name, "it is closed")
        if call.begin():
            call.settle()

    def _stop_for(self, future: _Future) -> None:
        self._refuse_in_a_child()
        with self._lock:
            if self._stop is None:
                self._stop = _Stop()
                if self._thread is None:
                    self._stop.ended(None)
                else:
                    self._queue.put(self._stop)
            stop = self._stop
        stop.settle_when_ended(Call(_nothing, future))

    def _start(self) -> None:
        thread = threading.Thread(
            target=_serve,
            args=(self._queue, self._worker, self.name, self._tick_s),
            name=self.name,
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:
            raise ShortageError(self.name, f"its thread cannot be started: {error}") from error
        self._thread = thread
        weakref.finalize(self, self._queue.put, _Stop()).atexit = False

    def _refuse_in_a_child(self) -> None:
        if self._pid != os.getpid():
            raise ForkedError(
                self.name, "it was made before this process was forked; make a new one here"
            )


class _Stop:
    """The last thing in a queue; nobody waits for it when the store was dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Call[Any]] = []
        self._has_ended = False
        self._error: BaseException | None = None

    def settle_when_ended(self, call: Call[Any]) -> None:
        with self._lock:
            if not self._has_ended:
                self._waiting.append(call)
                return
        call.error = _copy_of(self._error)
        _settle_on_their_loops([call])

    def ended(self, error: BaseException | None) -> None:
        with self._lock:
            self._has_ended, self._error = True, error
            waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.error = _copy_of(error)
        _settle_on_their_loops(waiting)


_Queue: TypeAlias = SimpleQueue[Call[_ResourceT] | _Stop]


def _serve(
    queue: _Queue[_ResourceT], worker: BatchWorker[_ResourceT], name: str, tick_s: float | None
) -> None:
    stop: _Stop | None = None
    next_tick = None if tick_s is None else time.monotonic() + tick_s
    while stop is None:
        taken = _take(queue, next_tick)
        calls: list[Call[_ResourceT]] = []
        for item in taken:
            if isinstance(item, _Stop):
                stop = item
            elif item.begin():
                calls.append(item)
        if calls:
            _run(worker, calls, name)
            _settle_on_their_loops(calls)
        del taken, calls  # or the last answers would live until the next call
        if next_tick is not None and tick_s is not None and time.monotonic() >= next_tick:
            _tick(worker, name)
            next_tick = time.monotonic() + tick_s
    error: BaseException | None = None
    try:
        worker.finish()
    except BaseException as raised:  # noqa: BLE001  the caller of `close` must hear of it
        error = _expected(raised, name)
    stop.ended(error)


def _take(queue: _Queue[_ResourceT], until: float | None) -> list[Call[_ResourceT] | _Stop]:
    """Everything that waits, up to a stop; nothing when it is time for a tick."""
    taken: list[Call[_ResourceT] | _Stop] = []
    try:
        timeout = None if until is None else max(0.0, until - time.monotonic())
        taken.append(queue.get(timeout=timeout))
        while len(taken) < _MAX_BATCH and not isinstance(taken[-1], _Stop):
            taken.append(queue.get_nowait())
    except Empty:
        pass
    return taken


def _run(worker: BatchWorker[_ResourceT], calls: Sequence[Call[_ResourceT]], name: str) -> None:
    try:
        worker.run(calls)
    except BaseException as raised:  # noqa: BLE001  the thread must live on, and its callers hear
        error = _expected(raised, name)
        for call in calls:
            call.error = _copy_of(error)


def _tick(worker: BatchWorker[Any], name: str) -> None:
    try:
        worker.tick()
    except BaseException:
        logger.warning("%s: its regular work failed and is tried again", name, exc_info=True)


def _expected(raised: BaseException, name: str) -> DiskError:
    if isinstance(raised, DiskError):
        return raised
    error = BatchFailedError(name, f"its work ended in {type(raised).__name__}: {raised}")
    error.__cause__ = raised
    return error


def _copy_of(error: BaseException | None) -> BaseException | None:
    return error.own_copy() if isinstance(error, DiskError) else error


def _nothing(_resource: object) -> None:
    """The operation of a caller that waits for the end."""


def _settle_on_their_loops(calls: Sequence[Call[Any]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Call[Any]]] = {}
    for call in calls:
        if isinstance(call.future, concurrent.futures.Future):
            call.settle()
        else:
            by_loop.setdefault(call.future.get_loop(), []).append(call)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, group)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            continue


def _settle(calls: Sequence[Call[Any]]) -> None:
    for call in calls:
        call.settle()

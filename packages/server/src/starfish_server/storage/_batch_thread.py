"""A thread that serves event loops in batches.

Handing each blocking call to an executor costs two thread switches a call. Here the thread takes
all calls that wait, answers them together, and wakes the event loop once. Rule 1: a call that was
submitted is settled, whatever happens. Rule 2: the thread knows no store, so that a store dropped
without `close` is collected, and its thread with it.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

__all__ = ("BatchThread", "BatchWorker", "Call")

T = TypeVar("T")
ResourceT = TypeVar("ResourceT")
ResourceT_co = TypeVar("ResourceT_co", covariant=True)
ResourceT_contra = TypeVar("ResourceT_contra", contravariant=True)

_MAX_BATCH = 1024
"""Calls taken together at most, so that the first of a flood is not answered with the last."""


class Call(Generic[ResourceT_contra]):
    """One call that waits: what to do with the worker's resource, and who wants to know."""

    __slots__ = ("error", "future", "operation", "result")

    def __init__(
        self, operation: Callable[[ResourceT_contra], Any], future: asyncio.Future[Any]
    ) -> None:
        self.operation = operation
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        """Tell whoever waits; on the event loop of the future."""
        if self.future.done():  # cancelled in the meantime
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class BatchWorker(Protocol[ResourceT_co]):
    """What a thread does; all of it runs in that thread, one thing at a time."""

    def run(self, calls: Sequence[Call[ResourceT_co]]) -> None:
        """Set ``result`` or ``error`` of every call."""
        ...

    def finish(self) -> None:
        """Release what is held; nothing runs afterwards."""
        ...


class BatchThread(Generic[ResourceT]):
    """Runs a worker in a thread of its own; a daemon, so that it never holds up the exit.

    Args:
        name: of the thread, for those who look at a stack dump.
        worker: must hold no reference to whoever holds this object.
    """

    def __init__(self, name: str, worker: BatchWorker[ResourceT]) -> None:
        self._queue: _Queue[ResourceT] = SimpleQueue()
        threading.Thread(target=_serve, args=(self._queue, worker), name=name, daemon=True).start()
        weakref.finalize(self, self._queue.put, _Stop(None)).atexit = False

    def submit(self, operation: Callable[[ResourceT], T]) -> asyncio.Future[T]:
        """Have the operation done; the future is settled on the running event loop.

        When the future is cancelled, the operation is done or not, never in part.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(Call(operation, future))
        return future

    def stop(self) -> asyncio.Future[None]:
        """Have the thread end after what was submitted; settled when everything is released."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(_Stop(future))
        return future


class _Stop:
    """The last thing in a queue; nobody waits for it when the store was dropped."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[None] | None) -> None:
        self.future = future


_Queue: TypeAlias = SimpleQueue[Call[ResourceT] | _Stop]


def _serve(queue: _Queue[ResourceT], worker: BatchWorker[ResourceT]) -> None:
    stop: _Stop | None = None
    while stop is None:
        taken = [queue.get()]
        taken += [queue.get() for _ in range(min(queue.qsize(), _MAX_BATCH))]
        calls: list[Call[ResourceT]] = []
        for item in taken:
            if isinstance(item, _Stop):
                stop = item
            elif not item.future.cancelled():
                calls.append(item)
        if calls:
            _run(worker, calls)
            _settle_on_their_loops(calls)
        del taken, calls  # or the last answers would live until the next call
    error: BaseException | None = None
    try:
        worker.finish()
    except BaseException as raised:  # noqa: BLE001  whoever closes must hear of it
        error = raised
    if stop.future is not None:
        end = Call(_nothing, stop.future)
        end.error = error
        _settle_on_their_loops([end])


def _nothing(_resource: object) -> None:
    """What the end of a thread does besides ending."""


def _run(worker: BatchWorker[ResourceT], calls: Sequence[Call[ResourceT]]) -> None:
    try:
        worker.run(calls)
    except BaseException as error:  # noqa: BLE001  the thread must live on, and whoever waits hear
        for call in calls:
            call.error = error


def _settle_on_their_loops(calls: Sequence[Call[Any]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Call[Any]]] = {}
    for call in calls:
        by_loop.setdefault(call.future.get_loop(), []).append(call)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, group)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            continue


def _settle(calls: Sequence[Call[Any]]) -> None:
    for call in calls:
        call.settle()

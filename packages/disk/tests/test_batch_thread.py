"""Every call is settled, whatever the worker, the caller or the event loop does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_disk.batch_thread import BatchThread, Call
from starfish_disk.errors import (
    BatchFailedError,
    ClosedError,
    ForkedError,
    FullError,
    ShortageError,
)


class Worker:
    """Gives each operation a list of everything done so far."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.batches: list[int] = []
        self.ticks = 0
        self.finished = threading.Event()
        self.failure: BaseException | None = None
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def run(self, calls: Sequence[Call[list[Any]]]) -> None:
        self.entered.set()
        self.open.wait(10)
        self.batches.append(len(calls))
        if self.failure is not None:
            raise self.failure
        for call in calls:
            try:
                call.result = call.operation(self.log)
            except Exception as error:  # noqa: BLE001
                call.error = error

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == 1:
            raise ValueError("the first one fails")

    def finish(self) -> None:
        self.finished.set()


def add(value: Any) -> Callable[[list[Any]], Any]:
    def operation(log: list[Any]) -> Any:
        log.append(value)
        return value

    return operation


@pytest.fixture
def worker() -> Worker:
    return Worker()


async def test_calls_that_wait_are_one_batch_in_order(worker: Worker) -> None:
    thread = BatchThread("t", worker)
    worker.open.clear()
    first = thread.submit(add(0))
    await asyncio.to_thread(worker.entered.wait, 10)
    rest = [thread.submit(add(n)) for n in range(1, 100)]
    worker.open.set()

    assert await asyncio.gather(first, *rest) == list(range(100))
    assert worker.log == list(range(100))
    assert worker.batches == [1, 99]
    await thread.stop()


def test_a_thread_may_wait_for_a_result(worker: Worker) -> None:
    thread = BatchThread("t", worker)

    def refuse(_log: list[Any]) -> None:
        raise KeyError("no")

    assert thread.call(add(1)) == 1
    assert thread.submit_from_thread(add(2)).result(10) == 2
    with pytest.raises(KeyError):
        thread.call(refuse)
    thread.close()
    assert worker.finished.is_set()


async def test_an_unexpected_exception_fails_the_batch_and_the_thread_lives_on(
    worker: Worker,
) -> None:
    thread = BatchThread("name of it", worker)
    for failure in (ZeroDivisionError("oops"), SystemExit(3), KeyboardInterrupt()):
        worker.failure = failure
        with pytest.raises(BatchFailedError, match="name of it") as caught:
            await thread.submit(add(1))
        assert caught.value.__cause__ is failure
    worker.failure = FullError("disk", "full")
    errors = await asyncio.gather(
        thread.submit(add(1)), thread.submit(add(2)), return_exceptions=True
    )
    assert [type(error) for error in errors] == [FullError, FullError]
    assert errors[0] is not errors[1]
    worker.failure = None

    assert await thread.submit(add(2)) == 2
    await thread.stop()


async def test_what_comes_after_the_end_is_refused(worker: Worker) -> None:
    thread = BatchThread("t", worker)
    before = thread.submit(add(1))
    await thread.stop()
    await thread.stop()

    assert await before == 1
    with pytest.raises(ClosedError):
        await thread.submit(add(2))
    with pytest.raises(ClosedError):
        await asyncio.to_thread(thread.call, add(2))
    assert worker.log == [1]


def test_a_thread_that_never_ran_may_be_closed(worker: Worker) -> None:
    thread = BatchThread("t", worker)
    thread.close()
    thread.close()


async def test_an_error_at_the_end_is_told_to_all_that_stop(worker: Worker) -> None:
    def fail() -> None:
        raise FullError("disk", "full")

    worker.finish = fail  # type: ignore[method-assign]
    thread = BatchThread("t", worker)
    await thread.submit(add(1))

    for _ in range(2):
        with pytest.raises(FullError):
            await thread.stop()


async def test_a_cancelled_call_that_has_not_begun_is_not_done(worker: Worker) -> None:
    thread = BatchThread("t", worker)
    worker.open.clear()
    first = thread.submit(add(0))
    await asyncio.to_thread(worker.entered.wait, 10)
    second, third = thread.submit(add(1)), thread.submit_from_thread(add(2))
    second.cancel()
    third.cancel()
    worker.open.set()

    await first
    assert await thread.submit(add(3)) == 3
    assert worker.log == [0, 3]
    await thread.stop()


async def test_a_cancelled_call_that_has_begun_harms_nobody(worker: Worker) -> None:
    thread = BatchThread("t", worker)
    worker.open.clear()
    first = thread.submit(add(0))
    await asyncio.to_thread(worker.entered.wait, 10)
    first.cancel()
    worker.open.set()

    assert await thread.submit(add(1)) == 1
    await thread.stop()


def test_a_loop_that_is_gone_harms_nobody(worker: Worker) -> None:
    thread = BatchThread("t", worker)
    worker.open.clear()

    async def leave() -> None:
        thread.submit(add(1))

    asyncio.run(leave())
    worker.open.set()

    assert thread.call(add(2)) == 2
    assert asyncio.run(_submit(thread, 3)) == 3
    thread.close()


async def _submit(thread: BatchThread[list[Any]], value: int) -> int:
    result: int = await thread.submit(add(value))
    return result


def test_several_loops_are_served_at_once(worker: Worker) -> None:
    thread = BatchThread("t", worker)

    async def many(start: int) -> list[int]:
        return await asyncio.gather(*(thread.submit(add(n)) for n in range(start, start + 50)))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda start: asyncio.run(many(start)), range(0, 200, 50)))

    assert results == [list(range(start, start + 50)) for start in range(0, 200, 50)]
    thread.close()


def interrupt_when_waiting(thread_id: int) -> None:
    """Ctrl-C at the moment when a thread waits for the result of its call."""
    while True:
        frame = sys._current_frames().get(thread_id)
        names = []
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        if names[:2] == ["wait", "result"]:
            os.kill(os.getpid(), signal.SIGINT)
            return
        time.sleep(0.01)


def test_ctrl_c_while_waiting_leaves_the_thread_usable(worker: Worker) -> None:
    thread = BatchThread("t", worker)
    worker.open.clear()
    thread.submit_from_thread(add(0))
    interrupting = threading.Thread(target=interrupt_when_waiting, args=[threading.get_ident()])
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        thread.call(add(1))
    interrupting.join()
    worker.open.set()

    assert thread.call(add(2)) == 2
    assert worker.log == [0, 2]
    thread.close()


def test_a_thread_that_cannot_start_is_tried_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    thread = BatchThread("t", worker)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ShortageError):
            thread.call(add(1))

    assert thread.call(add(2)) == 2
    thread.close()


def test_the_timer_beats_and_outlives_a_failure(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    thread = BatchThread("t", worker, tick_s=0.01)
    thread.call(add(1))
    until = time.monotonic() + 10
    while worker.ticks < 3 and time.monotonic() < until:
        time.sleep(0.01)

    thread.close()
    assert worker.ticks >= 3
    assert "tried again" in caplog.text


def test_a_dropped_thread_ends_with_its_worker(worker: Worker) -> None:
    thread = BatchThread("t", worker)
    thread.call(add(1))
    reference = weakref.ref(thread)

    del thread
    gc.collect()

    assert reference() is None
    assert worker.finished.wait(10)


def test_a_child_gets_a_typed_error_at_once_also_when_locks_were_held(worker: Worker) -> None:
    thread = BatchThread("t", worker)
    thread.call(add(1))
    with thread._lock:  # as if another thread were just submitting
        pid = os.fork()
    if pid == 0:
        refused = 0
        for method in (lambda: thread.call(add(1)), thread.close):
            try:
                method()
            except ForkedError:
                refused += 1
        os._exit(0 if refused == 2 else 1)

    assert os.waitpid(pid, 0)[1] == 0
    assert thread.call(add(2)) == 2
    thread.close()


@given(st.lists(st.sampled_from(["submit", "cancel", "fail", "call"]), max_size=30))
def test_whatever_comes_is_settled_and_done_once(steps: list[str]) -> None:
    worker = Worker()
    thread = BatchThread("t", worker)

    def refuse(_log: list[Any]) -> None:
        raise KeyError("no")

    async def run() -> None:
        futures: list[Any] = []
        for number, step in enumerate(steps):
            if step == "call":
                assert await asyncio.to_thread(thread.call, add(number)) == number
            else:
                futures.append(thread.submit(refuse if step == "fail" else add(number)))
                if step == "cancel":
                    futures[-1].cancel()
        settled = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 10)
        await thread.stop()
        done = [value for value in settled if isinstance(value, int)]
        assert len(set(worker.log)) == len(worker.log)
        assert set(done) <= set(worker.log)

    asyncio.run(run())

"""What every log promises while many append and many watch, in threads, tasks and processes.

Each test carries the name of the promise that it is about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest

from starfish_watcher._projection.definition import Change
from starfish_watcher._store import EventStore
from starfish_watcher._watchers.projection_watcher import ProjectionWatcher
from starfish_watcher.errors import StoreClosed
from starfish_watcher.testing.samples import CREDIT, Balance, at, credit, in_process, in_threads

__all__ = ("ConvergenceContract",)

Opener = Callable[..., EventStore]


class ConvergenceContract:
    """The part of `WatchContract` that is about races."""

    def test_strictly_increasing_generations(self, store: EventStore, repetition: int) -> None:
        """Also while several threads append and several receive from one watcher."""
        watcher = store.watch_projection(Balance, "a")
        seen: list[Change[int]] = []

        def receive() -> None:
            while not seen or seen[-1].generation < 60:
                if change := watcher.try_recv():
                    seen.append(change)
                time.sleep(0.0005 * (repetition % 2))

        in_threads(receive, *[lambda: [credit(store, "a") for _ in range(20)]] * 3)

        generations = [change.generation for change in seen]
        assert generations == sorted(set(generations))
        assert all(change.state == change.generation for change in seen)

    @pytest.mark.usefixtures("repetition")
    def test_batch_never_partial(self, store: EventStore) -> None:
        """No state between the items of a batch is ever returned."""
        watcher = store.watch_projection(Balance, "a")
        states: list[int] = []

        def receive() -> None:
            while not states or states[-1] < 120:
                change = watcher.recv(20)
                assert change.state is not None
                states.append(change.state)

        def append() -> None:
            for _ in range(10):
                store.append_batch([(at("a"), CREDIT, {"amount": 1})] * 4)

        in_threads(receive, append, append, append)

        assert all(state % 4 == 0 for state in states)

    @pytest.mark.usefixtures("repetition")
    def test_watchers_and_writers_in_threads_converge(self, store: EventStore) -> None:
        """Each watcher ends at the last state of its entity."""
        entities = ["a", "b", "a:child"]
        watchers = [(entity, store.watch_projection(Balance, entity)) for entity in entities * 2]

        def write() -> None:
            for entity in entities * 8:
                credit(store, entity)

        def receive(watcher: ProjectionWatcher[int]) -> None:
            last = 0
            while last < 32:
                change = watcher.recv(20)
                assert change.generation > last
                assert change.state == change.generation
                last = change.generation

        in_threads(*[write] * 4, *(partial(receive, one) for _, one in watchers))

    @pytest.mark.usefixtures("repetition")
    def test_watchers_and_writers_in_processes_converge(
        self, opener: Opener, expression: str | None
    ) -> None:
        """Both ways: a child's watchers see our appends, ours see theirs."""
        if expression is None:
            pytest.skip("this storage is of one process")
        with opener() as store:
            body = (
                "import sys\n"
                "watcher = store.watch_projection(Balance, 'a')\n"
                "print('ready', flush=True); sys.stdin.readline()\n"
                "for _ in range(10): credit(store, 'a')\n"
                "last = Change(watcher.generation, None)\n"
                "while last.generation < 30:\n"
                "    last = watcher.recv(30)\n"
                "print(last.generation, last.state); store.close()\n"
            )
            children = [in_process(expression, body) for _ in range(2)]
            ready = [child.stdout.readline() for child in children if child.stdout]
            assert ready == ["ready\n"] * 2
            watcher = store.watch_projection(Balance, "a")
            for child in children:
                assert child.stdin
                child.stdin.write("go\n")
                child.stdin.flush()
            for _ in range(10):
                credit(store, "a")
            generation = 0
            while generation < 30:
                generation = watcher.recv(30).generation
            answers = [child.communicate(timeout=50) for child in children]

            assert [out for out, _ in answers] == ["30 30\n"] * 2, answers
            assert store.project(Balance, "a") == 30

    def test_an_append_of_another_process_wakes_within_100_ms(
        self, opener: Opener, expression: str | None
    ) -> None:
        """Measured from its return; with room for a machine that is busy."""
        if expression is None:
            pytest.skip("this storage is of one process")
        with opener() as store:
            body = (
                "import sys, time\n"
                "for line in sys.stdin:\n"
                "    credit(store, 'a'); print(time.time(), flush=True)\n"
                "store.close()\n"
            )
            child = in_process(expression, body)
            assert child.stdin
            assert child.stdout
            watcher = store.watch_projection(Balance, "a")
            delays: list[float] = []
            for _ in range(10):
                child.stdin.write("go\n")
                child.stdin.flush()
                watcher.recv(20)
                woke = time.time()  # noqa: TID251 - the other process has no other clock in common
                delays.append(woke - float(child.stdout.readline()))
                time.sleep(0.03)
            child.communicate(timeout=30)

            assert sorted(delays)[5] < 0.1

    @pytest.mark.usefixtures("repetition")
    def test_close_everywhere_wakes_the_watchers_of_other_processes(
        self, opener: Opener, expression: str | None
    ) -> None:
        """They get `StoreClosed` too; a later handle works."""
        if expression is None:
            pytest.skip("this storage is of one process")
        with opener() as store:
            watcher = store.watch_projection(Balance, "a")
            child = in_process(expression, "store.close(everywhere=True)")
            with pytest.raises(StoreClosed, match="everywhere"):
                watcher.recv(30)
            child.communicate(timeout=30)
        with opener() as store:
            store.watch_projection(Balance, "a")
            assert credit(store, "a") == 1

    @pytest.mark.usefixtures("repetition")
    def test_async_and_sync_watchers_agree(self, store: EventStore) -> None:
        """Both end at the same change, and a cancelled ``recv`` has taken nothing."""
        watcher = store.watch_projection(Balance, "a")

        async def follow() -> list[Change[int]]:
            aio = store.aio
            changes: list[Change[int]] = []
            async with await aio.watch_projection(Balance, "a") as asynchronous:
                appends = [
                    asyncio.create_task(aio.append(at("a"), CREDIT, {"amount": 1}))
                    for _ in range(20)
                ]
                while not changes or changes[-1].generation < 20:
                    receiving = asyncio.create_task(asynchronous.recv(20))
                    await asyncio.sleep(0)
                    if len(changes) % 2:
                        receiving.cancel()
                    try:
                        changes.append(await receiving)
                    except asyncio.CancelledError:
                        changes.append(await asynchronous.recv(20))
                await asyncio.gather(*appends)
                with pytest.raises(TimeoutError):
                    await asynchronous.recv(0.01)
            return changes

        changes = asyncio.run(follow())

        generations = [change.generation for change in changes]
        assert generations == sorted(set(generations))
        assert changes[-1] == watcher.recv(5) == Change(20, 20)

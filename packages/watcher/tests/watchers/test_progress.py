"""The start-up race and the order of generations, on a script instead of a store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_watcher import Change, ProjectionFailed, ProjectionWatcher, StoreClosed
from starfish_watcher._delivery.wake_flag import WakeFlag
from starfish_watcher._watchers.lookers import Lookers, PendingLook
from starfish_watcher._watchers.progress import Progress
from starfish_watcher._watchers.projection_watcher import AsyncProjectionWatcher


class ScriptedWakeUp(WakeFlag):
    def renew(self) -> None: ...

    def close(self) -> None: ...


def watcher_of(
    generations: list[int], states: list[int], **options: object
) -> tuple[ProjectionWatcher[str], ScriptedWakeUp]:
    """Reads these generations at start-up; each look gives the next of ``states``."""
    wake_up = ScriptedWakeUp()
    script: Iterator[int] = iter(generations)
    looks = iter(states)
    watcher = ProjectionWatcher(
        lambda: Change(generation := next(looks), f"state {generation}"),
        lambda: next(script),
        lambda: wake_up,
        **{"include_initial": False, "since_generation": None, **options},
    )
    return watcher, wake_up


def test_start_up_race_equal() -> None:
    watcher, _ = watcher_of([5, 5], [])

    with pytest.raises(TimeoutError):
        watcher.recv(0)


def test_start_up_race_greater() -> None:
    watcher, _ = watcher_of([5, 6], [6])

    assert watcher.recv(0) == Change(6, "state 6")
    with pytest.raises(TimeoutError):
        watcher.recv(0)


def test_start_up_race_greater_probes_only_once() -> None:
    watcher, _ = watcher_of([5, 6], [5])

    for _ in range(2):
        with pytest.raises(TimeoutError):
            watcher.recv(0)


def test_start_up_race_less() -> None:
    watcher, _ = watcher_of([5, 4], [])

    with pytest.raises(TimeoutError):
        watcher.recv(0)
    assert watcher.generation == 5


def test_a_wake_up_without_something_newer_is_absorbed() -> None:
    watcher, wake_up = watcher_of([5, 5], [5, 4, 6])

    for _ in range(2):
        wake_up.put_up()
        with pytest.raises(TimeoutError):
            watcher.recv(0)
    wake_up.put_up()
    assert watcher.recv(0).generation == 6


def test_what_comes_during_a_look_is_looked_at_again() -> None:
    wake_up = ScriptedWakeUp()
    looks = iter([1, 2])

    def look() -> Change[None]:
        generation = next(looks)
        if generation == 1:
            wake_up.put_up()
        return Change(generation, None)

    watcher = ProjectionWatcher(
        look, lambda: 0, lambda: wake_up, include_initial=False, since_generation=None
    )
    wake_up.put_up()

    assert [watcher.recv(0).generation for _ in range(2)] == [1, 2]


def test_a_failed_look_is_tried_again_without_a_wake_up() -> None:
    outcomes: list[Change[None] | Exception] = [
        ProjectionFailed("p", "a", "no"),
        ProjectionFailed("p", "a", "no"),
        Change(1, None),
    ]

    def look() -> Change[None]:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    wake_up = ScriptedWakeUp()
    watcher = ProjectionWatcher(
        look, lambda: 0, lambda: wake_up, include_initial=False, since_generation=None
    )
    wake_up.put_up()
    for _ in range(2):
        with pytest.raises(ProjectionFailed):
            watcher.recv(0)

    assert watcher.recv(0) == Change(1, None)
    assert watcher.try_recv() is None


def test_a_look_that_fails_beside_one_that_succeeds_is_tried_again() -> None:
    wake_up = ScriptedWakeUp()

    def look() -> Change[None]:
        if watcher.generation:
            return Change(2, None)
        assert watcher.delivered(Change(1, None))  # what another thread got meanwhile
        raise ProjectionFailed("p", "a", "no")

    watcher = ProjectionWatcher(
        look, lambda: 0, lambda: wake_up, include_initial=False, since_generation=None
    )
    wake_up.put_up()
    with pytest.raises(ProjectionFailed):
        watcher.recv(0)

    assert watcher.recv(0) == Change(2, None)


def test_a_wake_up_is_not_lost_to_an_older_look_that_ends_just_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher, wake_up = watcher_of([0, 0], [2])
    woken = watcher._progress.woken

    def overtaken() -> None:
        woken()
        watcher.delivered(Change(1, "state 1"))  # what another thread looked at before

    monkeypatch.setattr(watcher._progress, "woken", overtaken)
    wake_up.put_up()

    assert watcher.recv(0) == Change(2, "state 2")


class LookersByHand(Lookers):
    """Makes each look when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted: list[PendingLook[Any]] = []

    def submit(self, look: PendingLook[Any]) -> None:
        self.submitted.append(look)


async def test_a_wake_up_is_not_lost_to_the_older_look_of_another_task() -> None:
    watcher, wake_up = watcher_of([0, 0], [1, 1, 2])
    lookers = LookersByHand()
    receiver = AsyncProjectionWatcher(watcher, lookers)
    wake_up.put_up()
    older, newer = (asyncio.create_task(receiver.recv(5)) for _ in range(2))
    await asyncio.sleep(0)
    lookers.submitted[1].run()
    assert await newer == Change(1, "state 1")

    wake_up.put_up()
    newest = asyncio.create_task(receiver.recv(5))
    lookers.submitted[0].run()
    for _ in range(5):  # the new task has taken the flag down, then the older look is settled
        await asyncio.sleep(0)
    lookers.submitted[2].run()

    assert await newest == Change(2, "state 2")
    older.cancel()
    await asyncio.gather(older, return_exceptions=True)
    lookers.close()


@pytest.mark.parametrize(
    ("baseline", "options", "first"),
    [
        (3, {"include_initial": True}, 3),
        (0, {"include_initial": True}, 0),
        (3, {"since_generation": 2}, 3),
        (3, {"since_generation": 3}, None),
        (3, {"since_generation": 9}, None),
        (3, {"since_generation": 3, "include_initial": True}, None),
    ],
)
def test_where_a_watch_begins(baseline: int, options: dict[str, int], first: int | None) -> None:
    watcher, _ = watcher_of([baseline, baseline], [baseline], **options)

    change = watcher.try_recv()

    assert (None if change is None else change.generation) == first
    assert watcher.try_recv() is None


@given(
    baseline=st.integers(0, 5),
    looks=st.lists(st.integers(0, 9)),
    since=st.none() | st.integers(0, 9),
    initial=st.booleans(),
)
def test_accepted_generations_strictly_increase(
    baseline: int, looks: list[int], since: int | None, *, initial: bool
) -> None:
    progress = Progress(baseline, include_initial=initial, since_generation=since)

    accepted = [look for look in looks if progress.accept(Change(look, None))]

    later = accepted[1:] if initial and since is None else accepted
    assert later == sorted(set(later))
    assert all(look > (baseline if since is None else since) for look in later)


def test_a_closed_watcher_wakes_and_says_so() -> None:
    watcher, _ = watcher_of([0, 0], [])
    timer = threading.Timer(0.02, watcher.close)
    timer.start()

    with pytest.raises(StoreClosed, match="watcher was closed"):
        watcher.recv(20)
    timer.join()


def test_a_baseline_that_fails_leaves_nothing_behind() -> None:
    closed = []

    class Recorded(ScriptedWakeUp):
        def close(self) -> None:
            closed.append(True)

    script = iter([1])
    with pytest.raises(StopIteration):
        ProjectionWatcher(
            lambda: Change(1, None),
            lambda: next(script),
            Recorded,
            include_initial=False,
            since_generation=None,
        )
    assert closed == [True]

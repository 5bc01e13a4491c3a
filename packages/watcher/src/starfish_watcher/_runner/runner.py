"""Follow a source and keep views of it: for threads, and for asyncio.

One generator decides what comes next, and asks for one thing at a time: something of the source,
of the sink, or a pause. Two drivers do what it asks for, so that both faces behave alike.

Rule 1: the position is verified against the source before each read, so that a source that was put
back is an error and never a silent skip. Rule 2: an event that a view cannot take is never passed
over without a record.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, Self, TypeVar, cast

from starfish_protocol.events import (
    AsyncEventSource,
    Event,
    EventSource,
    PositionLost,
    SubscriptionPruned,
)
from starfish_watcher._projection.definition import Projection
from starfish_watcher._runner.book_view import BookView, as_view
from starfish_watcher._runner.group import Group, LeaseLostError
from starfish_watcher._runner.places import place_after, verified
from starfish_watcher._runner.records import Member, ParkedEvent, Place, Work
from starfish_watcher._runner.sink import Sink
from starfish_watcher._runner.view import Poison, Retry, View
from starfish_watcher.errors import RunnerError, SourcePositionLost, ViewFailed

__all__ = ("AsyncRunner", "Runner", "RunnerStats")

S = TypeVar("S")
SourceT = TypeVar("SourceT")
_LONGEST_WAIT_S: Final = 0.5
"""How long a runner may take to notice that it was stopped."""
_MAX_BATCH: Final = 65_536


@dataclass(frozen=True, slots=True)
class _OnSource:
    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class _OnSink:
    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class _Pause:
    seconds: float


_Steps = Generator[_OnSource | _OnSink | _Pause, Any, Any]


@dataclass(frozen=True, slots=True)
class RunnerStats:
    """How a runner does, in all processes."""

    last_sequence: int
    """Of the source."""
    sequence: int
    """That all partitions have reached."""
    lag: int
    """Sequences that the slowest partition is behind; 0 when all is done."""
    partitions: tuple[Member, ...]
    """Each partition and who works on it."""
    parked: int
    """Pairs of view and event that are parked."""
    applied: int
    """Events that this object handled since it was made."""
    rate: float
    """The same a second, while it was not waiting."""


class _AnyRunner(Generic[SourceT]):
    """What both faces share."""

    def __init__(
        self,
        source: SourceT,
        views: Sequence[View[Any] | Projection[Any] | type[Projection[Any]]],
        *,
        name: str,
        sink: Sink,
        partitions: int = 1,
        poison: Poison = "stop",
        batch: int = 1024,
        lease_s: float = 10.0,
        owner: str | None = None,
    ) -> None:
        """Follow ``source`` under ``name``; nothing is done before it runs.

        Args:
            source: A source of events; the runner never writes to it.
            views: Views of the sink's tables, or projections, whose states the sink keeps.
            name: Under which the sink keeps positions; processes that give the same name share
                the work.
            sink: Where tables and positions are; its owner closes it.
            partitions: Into how many parts entities are divided, and so how many processes may
                work at once. Events of one entity are applied in order; with one partition all are.
            poison: Which policy applies to an event that a view cannot take.
            batch: Events that are read, and committed, at once.
            lease_s: How long others leave the partitions of a process that is silent.
            owner: What this process is called in `stats`; drawn when ``None``.

        Raises:
            TypeError: a view is something else.
            ValueError: an argument is out of its range.
        """
        if poison not in ("stop", "park") and not isinstance(poison, Retry):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            msg = f"poison must be 'stop', 'park' or a Retry, not {poison!r:.80}"
            raise ValueError(msg)
        if not 1 <= batch <= _MAX_BATCH:
            msg = f"batch must be from 1 to {_MAX_BATCH}, not {batch}"
            raise ValueError(msg)
        self._source: Any = source
        self._group = Group(name, [as_view(v) for v in views], sink, partitions, lease_s, owner)
        self._poison: Poison = poison
        self._batch = batch
        self._stopping = threading.Event()
        self._turn = threading.Lock()
        self._failures: tuple[str, int, int] = ("", 0, 0)
        self._applied = 0
        self._busy_s = 0.0

    @property
    def name(self) -> str:
        """Under which the sink keeps positions."""
        return self._group.name

    def stop(self) -> None:
        """Have `run` return after the batch that it is at; from any thread."""
        self._stopping.set()

    def _steps(self, timeout: float | None, *, until_end: bool) -> _Steps:
        deadline = None if timeout is None else time.monotonic() + timeout
        group, source, before = self._group, self._source, self._applied
        yield _OnSink(group.enter)
        subscription = yield _OnSource(source.subscribe)
        try:
            while not self._stopping.is_set():
                if deadline is not None and time.monotonic() >= deadline:
                    break
                if group.due:
                    yield _OnSink(group.refresh)
                began = time.monotonic()
                found = bool(group.places) and (yield from self._one_batch(deadline))
                if found:
                    self._busy_s += time.monotonic() - began
                    continue
                if until_end and (yield from self._all_done()):
                    break
                subscription = yield from self._wait(subscription, deadline)
        finally:
            subscription.close()
        yield _OnSink(group.leave)
        return self._applied - before

    def _one_batch(self, deadline: float | None) -> _Steps:
        """Whether there was something to do."""
        group = self._group
        start = min(group.places.values())
        for position in {place.position for place in group.places.values() if place.sequence}:
            try:
                yield from _asked(verified(self._source, position))
            except PositionLost as error:
                raise SourcePositionLost(group.name, str(error)) from error
        events = yield _OnSource(lambda: self._source.read(start.sequence, self._batch))
        if not events:
            return False
        parking = self._poison == "park"
        try:
            yield from self._commit(events, parking=parking)
        except ViewFailed as failed:
            good = [event for event in events if event.sequence < (failed.sequence or 0)]
            if good:
                yield from self._commit(good, parking=False)
            yield from self._poisoned(failed, events[len(good)], deadline)
        return True

    def _commit(self, events: Sequence[Event], *, parking: bool) -> _Steps:
        place: Place = yield from _asked(place_after(self._source, events[-1]))
        try:
            progress = yield _OnSink(
                lambda: self._group.commit(Work(events, place), parking=parking)
            )
        except LeaseLostError:
            yield _OnSink(self._group.refresh)
        else:
            self._applied += progress.applied

    def _poisoned(self, failed: ViewFailed, event: Event, deadline: float | None) -> _Steps:
        policy = self._poison
        if not isinstance(policy, Retry):
            raise failed
        view, sequence, count = self._failures
        count = count + 1 if (view, sequence) == (failed.view, failed.sequence) else 1
        self._failures = (failed.view, failed.sequence or 0, count)
        if count <= policy.attempts:
            pause = policy.pause_s(count)
            if deadline is not None and time.monotonic() + pause >= deadline:
                raise failed
            ends = time.monotonic() + pause
            while not self._stopping.is_set() and (left := ends - time.monotonic()) > 0:
                yield _Pause(min(left, _LONGEST_WAIT_S))
                if self._group.due:
                    yield _OnSink(self._group.refresh)
        elif policy.then == "park":
            self._failures = ("", 0, 0)
            yield from self._commit([event], parking=True)
        else:
            raise failed

    def _all_done(self) -> _Steps:
        last = yield _OnSource(self._source.last_sequence)
        members = yield _OnSink(self._group.members)
        return min(member.sequence for member in members) >= last

    def _wait(self, subscription: Any, deadline: float | None) -> _Steps:
        seconds = min(_LONGEST_WAIT_S, self._group.lease_s / 4)
        if deadline is not None:
            seconds = min(seconds, max(0.0, deadline - time.monotonic()))
        if not self._group.places:
            yield _Pause(seconds)
            return subscription
        try:
            yield _OnSource(lambda: subscription.pull_batch(self._batch, seconds))
        except SubscriptionPruned:
            subscription.close()
            subscription = yield _OnSource(self._source.subscribe)
        return subscription

    def _retry_steps(self) -> _Steps:
        yield _OnSink(self._group.enter)
        parked: list[ParkedEvent] = yield _OnSink(self._group.parked)
        done = 0
        for each in parked:
            found = yield _OnSource(partial(self._source.read, each.sequence - 1, 1))
            event = found[0] if found else None
            done += yield _OnSink(partial(self._group.retry, each, event))
        return done

    def _stats_steps(self) -> _Steps:
        yield _OnSink(self._group.enter)
        last: int = yield _OnSource(self._source.last_sequence)
        members: list[Member] = yield _OnSink(self._group.members)
        parked: list[ParkedEvent] = yield _OnSink(self._group.parked)
        least = min(member.sequence for member in members)
        rate = self._applied / self._busy_s if self._busy_s else 0.0
        return RunnerStats(
            last, least, last - least, tuple(members), len(parked), self._applied, rate
        )

    def _state(self, projection: type[Projection[S]] | Projection[S], entity: str) -> S | None:
        self._group.enter()
        wanted: Any = as_view(projection)
        with self._group.sink.transaction() as t:
            view = next((each for each in self._group.views if each.name == wanted.name), None)
            if not isinstance(view, BookView):
                raise RunnerError(self.name, f"it has no projection {wanted.name!r}")
            state: Any = cast("Any", view).state((self.name, t), entity)
        return cast("S | None", state)

    def _begin(self) -> None:
        if not self._turn.acquire(blocking=False):
            raise RunnerError(self.name, "this object runs already; make another one")
        self._stopping.clear()


def _asked(questions: Generator[Callable[[], Any], Any, Any]) -> _Steps:
    """Ask the source what a generator of calls wants to know."""
    answer: Any = None
    while True:
        try:
            call = questions.send(answer)
        except StopIteration as ended:
            return ended.value
        answer = yield _OnSource(call)


class Runner(_AnyRunner[EventSource]):
    """Keeps views of an `EventSource` in the tables of a sink; each event has its effects once.

    Examples:
        >>> from starfish_watcher import Coordinate, EventKind, EventStore, MemorySink, View
        >>> class Totals(View[Any]):
        ...     name = "totals"
        ...     def apply(self, tables, event):
        ...         total = tables["total"]
        ...         total[event.scope] = total.get(event.scope, 0) + event.payload
        >>> with EventStore.memory() as store, MemorySink() as sink:
        ...     for amount in (5, 7):
        ...         _ = store.append(Coordinate("a", "eu"), EventKind.custom(0xF, 1), amount)
        ...     runner = Runner(store, [Totals()], name="reports", sink=sink)
        ...     runner.run(until_end=True), dict(sink.tables["total"]), runner.stats().lag
        (2, {'eu': 12}, 0)
    """

    def run(self, timeout: float | None = None, *, until_end: bool = False) -> int:
        """Apply the events that are there, and those that come, until `stop`; how many it applied.

        Args:
            timeout: Return after so many seconds.
            until_end: Return when all partitions have reached the end of the source.

        Raises:
            ViewFailed: a view could not take an event; those before it have their effects.
            SourcePositionLost: the source does not have the history that the views follow from.
            ViewMismatchError: the sink has other views, versions or partitions under this name.
            SubscriptionClosed: the source ended.
            RunnerError: this object runs already.
            WatcherError: the storage of the source or the sink refused.
        """
        self._begin()
        try:
            return int(_driven(self._steps(timeout, until_end=until_end), self._group))
        finally:
            self._turn.release()

    def stats(self) -> RunnerStats:
        """How far the views are, and who works on them."""
        stats: RunnerStats = _driven(self._stats_steps(), None)
        return stats

    def parked(self) -> list[ParkedEvent]:
        """Events that were recorded instead of applied, by sequence."""
        self._group.enter()
        return self._group.parked()

    def park(self, sequence: int, reason: str, *, view: str | None = None) -> None:
        """Have all views, or one, pass over an event that none has reached: the way past a stop.

        Raises:
            RunnerError: it may have had its effects already, or the view is unknown.
        """
        self._group.enter()
        self._group.park(sequence, reason, view)

    def retry_parked(self) -> int:
        """Apply the parked events again, each after all that followed it; how many succeeded."""
        return int(_driven(self._retry_steps(), None))

    def state(self, projection: type[Projection[S]] | Projection[S], entity: str) -> S | None:
        """The state that the sink keeps of a projection, ``None`` when no event was folded.

        Raises:
            RunnerError: the runner has no such projection.
        """
        return self._state(projection, entity)

    def reset(self) -> None:
        """Clear the views' tables and begin from the start; `View.clear` removes them.

        Raises:
            RunnerError: another process works on it.
        """
        self._group.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class AsyncRunner(_AnyRunner[AsyncEventSource]):
    """`Runner` over an `AsyncEventSource`: the sink works in threads, waiting is the loop's.

    A cancelled call leaves the views at the end of a batch, whole.
    """

    async def run(self, timeout: float | None = None, *, until_end: bool = False) -> int:
        """As `Runner.run`."""
        self._begin()
        try:
            steps = self._steps(timeout, until_end=until_end)
            return int(await _driven_async(steps, self._group))
        finally:
            self._turn.release()

    async def stats(self) -> RunnerStats:
        """As `Runner.stats`."""
        stats: RunnerStats = await _driven_async(self._stats_steps(), None)
        return stats

    async def parked(self) -> list[ParkedEvent]:
        """As `Runner.parked`."""
        await asyncio.to_thread(self._group.enter)
        return await asyncio.to_thread(self._group.parked)

    async def park(self, sequence: int, reason: str, *, view: str | None = None) -> None:
        """As `Runner.park`."""
        await asyncio.to_thread(self._group.enter)
        await asyncio.to_thread(self._group.park, sequence, reason, view)

    async def retry_parked(self) -> int:
        """As `Runner.retry_parked`."""
        return int(await _driven_async(self._retry_steps(), None))

    async def state(self, projection: type[Projection[S]] | Projection[S], entity: str) -> S | None:
        """As `Runner.state`."""
        return await asyncio.to_thread(self._state, projection, entity)

    async def reset(self) -> None:
        """As `Runner.reset`."""
        await asyncio.to_thread(self._group.reset)


def _driven(steps: _Steps, group: Group | None) -> Any:
    answer: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as ended:
                return ended.value
            answer, error = None, None
            try:
                if isinstance(step, _Pause):
                    time.sleep(step.seconds)
                else:
                    answer = step.call()
            except BaseException as raised:  # noqa: BLE001 - the generator decides what it means
                error = raised
    except BaseException:
        _left(group)
        raise


async def _driven_async(steps: _Steps, group: Group | None) -> Any:
    answer: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as ended:
                return ended.value
            answer, error = None, None
            try:
                answer = await _done(step)
            except BaseException as raised:  # noqa: BLE001 - likewise
                error = raised
    except BaseException:
        await asyncio.shield(asyncio.to_thread(_left, group))
        raise


async def _done(step: _OnSource | _OnSink | _Pause) -> Any:
    if isinstance(step, _Pause):
        return await asyncio.sleep(step.seconds)
    if isinstance(step, _OnSink):
        # Not given up when the caller is cancelled: the commit is whole, and known to be.
        working = asyncio.ensure_future(asyncio.to_thread(step.call))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait([working])
            raise
    answer = step.call()
    return await answer if inspect.isawaitable(answer) else answer


def _left(group: Group | None) -> None:
    """Give up the leases, where that is possible: the error that ended the run goes before."""
    if group is None:
        return
    try:
        group.leave()
    except Exception:  # noqa: BLE001 - the leases end by themselves
        return

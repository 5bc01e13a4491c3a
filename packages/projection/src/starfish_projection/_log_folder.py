"""Fold the writes of a change log into lists: one process at a time, whichever that is.

Rule 1: the position moves past a change only when the change is folded, parked, or written down as
pending. Rule 2: changes of one document are folded in their order; different documents and
different lists never wait for each other longer than `_PATIENCE_S`. Rule 3: folding a write twice
leaves the same list, so a process that takes over may begin a little earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from starfish_projection._change_log import LoggedChange, StoreLog, is_lost_position
from starfish_projection._definition import Projection
from starfish_projection._drops import DropReason, FoldCounters
from starfish_projection._leadership import FoldState, Leadership, PendingChange
from starfish_projection._parking import Failure, ParkedWrite, ParkingLot
from starfish_projection._projected_write import stored_write
from starfish_projection._store import ListStore, TargetStore
from starfish_protocol.errors import StarfishError
from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import WriteEvent

__all__ = ("Folding", "LogFolder", "state_key")

_PAGE = 256
"""Changes that are read together."""
_MAX_PENDING = 256
"""Changes that may take long at a time; with more of them the position waits."""
_PATIENCE_S = 0.25
"""How long one change may hold up those behind it before it is written down as pending."""
_LEASE_S = 2.0
"""A process that folds and writes nothing for so long is taken for gone."""
_BEAT_S = 0.5
"""How often a process that folds shows that it is there."""
_IDLE_S = 1.0
"""With nothing to do for so long, a process lets another one fold."""
_LOOK_S = 0.5
"""How often a process that does not fold looks whether another one does."""
_QUICK_LOOK_S = 0.002
"""The same while a push waits."""
_START_S = 0.05
"""How long a start waits for the missed writes; the rest is folded while requests are served."""

TRANSIENT: tuple[DropReason, ...] = ("retries_exhausted", "store_failed")
"""Reasons that lie in the moment, not in the write: these are tried again by themselves."""

Folding = Callable[[WriteEvent, bool], Awaitable[Sequence[Failure]]]
"""Takes a write to its lists and tells what failed; with ``True`` nothing is reported."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """How far this process has come since it began to fold."""

    position: str | None
    sequence: int
    busy_at: float = 0.0
    beat_at: float = 0.0


class LogFolder:
    """Follows the log of a store for one set of projections.

    Args:
        store: holds the documents, the lists and the position.
        log: of the store.
        projections: the set; another set has a position of its own.
        fold: takes a write to its lists.
        counters: told how far it is.
        retry_every_ms: time between two tries of a parked write whose list could not be written.
    """

    def __init__(
        self,
        store: ListStore,
        log: StoreLog,
        projections: Sequence[Projection],
        fold: Folding,
        *,
        counters: FoldCounters,
        retry_every_ms: int,
    ) -> None:
        self._store = store
        self._log = log
        self._sources = {source for projection in projections for source in projection.sources}
        self._fold = fold
        self._counters = counters
        self._retry_s = retry_every_ms / 1000
        key = state_key(projections)
        self._leadership = Leadership(TargetStore(store), f"{key}/state", lease_s=_LEASE_S)
        self._lot = ParkingLot(store, f"{key}/parked/")
        self._parked: dict[str, ParkedWrite] = {}
        self._retry_at = 0.0
        self._inflight: dict[str, tuple[PendingChange, asyncio.Task[None]]] = {}
        self._again: dict[str, PendingChange] = {}
        self._waiting: dict[asyncio.Future[None], tuple[int, str | None]] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_first_turn = True

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Begin to fold in the background; returns soon, whatever was missed."""
        self._is_first_turn = True
        self._task = asyncio.create_task(self._run())
        with contextlib.suppress(TimeoutError, StarfishError):
            async with asyncio.timeout(_START_S):
                await self.folded(await self._log.last_sequence(), None)

    async def stop(self, limit_s: float) -> None:
        """Fold the writes so far, for a bounded time, and let another process go on."""
        task, self._task = self._task, None
        if task is None:
            return
        with contextlib.suppress(TimeoutError, StarfishError):
            async with asyncio.timeout(limit_s):
                if not task.done():
                    await self.folded(await self._log.last_sequence(), None)
        task.cancel()
        unfinished = [task, *(each for _, each in self._inflight.values())]
        for each in unfinished:
            each.cancel()
        await asyncio.wait(unfinished, timeout=limit_s)
        self._inflight.clear()
        self._again.clear()
        with contextlib.suppress(TimeoutError, StarfishError):
            async with asyncio.timeout(limit_s):
                await self._leadership.look()  # a write may have been cut off by the end
                if self._leadership.is_mine:
                    await self._leadership.give_up()
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()

    async def folded(self, sequence: int, key: str | None) -> None:
        """Return when everything up to a sequence is folded or parked.

        Args:
            sequence: of the log.
            key: of a document that must not be pending either; others may be.
        """
        if self._is_passed(self._leadership.state, sequence, key):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = (sequence, key)
        self._wanted.set()
        try:
            await future
        finally:
            self._waiting.pop(future, None)

    async def parked(self) -> list[ParkedWrite]:
        """The writes that are parked, by any process."""
        return await self._lot.all()

    async def retry_parked(self) -> int:
        """Try every parked write again; how many of them are folded now."""
        done = 0
        for parked in await self._lot.all():
            failures = await self._fold_one(parked.change, quiet=True)
            if failures:
                self._parked[parked.key] = await self._lot.park(parked.change, failures)
            else:
                await self._lot.release(parked.key)
                self._parked.pop(parked.key, None)
                done += 1
        self._counters.parked = len(self._parked)
        return done

    # The turns of this process.

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._turn()
                failures = 0
            except Exception:
                failures += 1
                logger.exception("following the change log failed; it is tried again")
                await asyncio.sleep(min(0.05 * 2**failures, 5.0))

    async def _turn(self) -> None:
        state = await self._leadership.look()
        self._tell(state)
        if self._waiting and not self._leadership.is_free():
            await asyncio.sleep(_QUICK_LOOK_S)
            return
        last = await self._log.last_sequence()
        self._counters.moved(state.sequence, last)
        must_load, self._is_first_turn = self._is_first_turn, False
        behind = state.sequence < last or bool(state.pending)
        if not behind and must_load:
            behind = bool(await self._lot.all())
        if behind and self._leadership.is_free():
            if await self._leadership.take():
                await self._lead()
        elif behind:
            await self._rest(_LOOK_S / 10)
        else:
            await self._sleep(state.sequence, _LOOK_S)

    async def _rest(self, limit_s: float) -> None:
        """Until a push waits, or the time is up."""
        self._wanted.clear()
        if not self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._wanted.wait()

    async def _sleep(self, sequence: int, limit_s: float) -> None:
        """Until something is written, a push waits, or the time is up."""
        self._wanted.clear()
        if self._waiting:
            return
        change = asyncio.ensure_future(
            self._log.last_sequence(wait_after=sequence, timeout=limit_s)
        )
        wanted = asyncio.ensure_future(self._wanted.wait())
        try:
            await asyncio.wait([change, wanted], return_when=asyncio.FIRST_COMPLETED)
            if change.done():
                change.result()
        finally:
            for each in (change, wanted):
                each.cancel()
            await asyncio.wait([change, wanted])

    # Folding.

    async def _lead(self) -> None:
        loop = asyncio.get_running_loop()
        self._parked = {each.key: each for each in await self._lot.all()}
        self._counters.parked = len(self._parked)
        self._retry_at = loop.time() + self._retry_s
        self._counters.is_folding = True
        run = _Run(self._leadership.state.position, self._leadership.state.sequence)
        try:
            for change in self._leadership.state.pending:
                self._begin(change)
            run.busy_at = run.beat_at = loop.time()
            while await self._step(run):
                pass
        finally:
            self._counters.is_folding = False
            for _, task in self._inflight.values():
                task.cancel()
            self._inflight.clear()
            self._again.clear()

    async def _step(self, run: _Run) -> bool:
        """Fold one page; ``False`` when this process folds no longer."""
        slow = set(self._inflight)
        changes = await self._next_page(run)
        await self._settle(_PATIENCE_S, slow)
        self._retry_due()
        pending = [change for change, _ in self._inflight.values()]
        known = self._leadership.state
        now = asyncio.get_running_loop().time()
        has_moved = run.sequence != known.sequence or len(pending) != len(known.pending)
        if has_moved or now - run.beat_at >= _BEAT_S:
            if not await self._leadership.move(run.position, run.sequence, pending):
                logger.info("another process folds from here on")
                return False
            # Those who wait here no sooner than those of other processes, or these would starve.
            self._tell(self._leadership.state)
            run.beat_at = now
        if changes or pending or self._has_transient():
            run.busy_at = now
        elif now - run.busy_at >= _IDLE_S:
            await self._leadership.give_up()
            return False
        if not changes:
            await self._pause(run.sequence)
        return True

    async def _next_page(self, run: _Run) -> Sequence[LoggedChange]:
        if len(self._inflight) >= _MAX_PENDING:
            return ()
        try:
            page = await self._log.read(run.position, _PAGE)
        except StarfishError as error:
            if not is_lost_position(error, run.position):
                raise
            logger.warning("the change log was replaced; it is folded from its start")
            run.position, run.sequence = None, 0
            page = await self._log.read(None, _PAGE)
        for change in _newest(page.changes, self._sources):
            self._begin(change)
        run.position = page.next
        if page.changes:
            run.sequence = page.changes[-1].sequence
        return page.changes

    def _begin(self, change: PendingChange) -> None:
        if change.key in self._inflight:
            self._again[change.key] = change  # in its turn, and only the newest
            return
        task = asyncio.create_task(self._work(change))
        self._inflight[change.key] = (change, task)
        task.add_done_callback(partial(self._ended, change))

    def _ended(self, change: PendingChange, task: asyncio.Task[None]) -> None:
        current = self._inflight.get(change.key)
        if current is None or current[1] is not task:
            return
        del self._inflight[change.key]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Neither folded nor parked: the store takes nothing. It stays pending and is tried anew.
            logger.error("a write could not be parked: %r", error)
            retry = asyncio.create_task(asyncio.sleep(min(self._retry_s, 1.0)))
            self._inflight[change.key] = (change, retry)
            retry.add_done_callback(partial(self._begin_after, change))
            return
        again = self._again.pop(change.key, None)
        if again is not None:
            self._begin(again)

    def _begin_after(self, change: PendingChange, pause: asyncio.Task[None]) -> None:
        current = self._inflight.get(change.key)
        if current is not None and current[1] is pause and not pause.cancelled():
            del self._inflight[change.key]
            self._begin(self._again.pop(change.key, change))

    async def _work(self, change: PendingChange) -> None:
        before = self._parked.get(change.key)
        failures = await self._fold_one(change, quiet=False)
        kept = [each for each in failures if each.reason != "list_full"]
        if kept:
            self._parked[change.key] = await self._lot.park(change, kept)
        elif before is not None:
            await self._lot.release(change.key)
            self._parked.pop(change.key, None)
        self._counters.parked = len(self._parked)

    async def _fold_one(self, change: PendingChange, *, quiet: bool) -> Sequence[Failure]:
        event = await self._event(change)
        return () if event is None else await self._fold(event, quiet)

    async def _event(self, change: PendingChange) -> WriteEvent | None:
        folder = "" if change.namespace is None else f"{change.namespace}/"
        event = WriteEvent(
            change.collection,
            change.hash,
            change.timestamp,
            change.params,
            body={},
            namespace=change.namespace,
            document_key=change.key.removeprefix(folder),
            identity=change.identity,
            sequence=change.sequence,
        )
        text = await self._store.get_string(change.key)
        if text is None:
            return WriteEvent(
                change.collection,
                "",
                change.timestamp,
                change.params,
                body=None,
                namespace=change.namespace,
                document_key=event.document_key,
                sequence=change.sequence,
            )
        written = stored_write(text, event)
        if written is None or written.hash != change.hash:
            return written
        return WriteEvent(
            written.collection,
            written.hash,
            written.timestamp,
            written.params,
            body=written.body,
            namespace=written.namespace,
            document_key=written.document_key,
            identity=change.identity,
            sequence=change.sequence,
        )

    def _has_transient(self) -> bool:
        return any(_is_transient(each) for each in self._parked.values())

    def _retry_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._retry_at:
            return
        self._retry_at = now + self._retry_s
        for parked in list(self._parked.values()):
            if _is_transient(parked) and parked.key not in self._inflight:
                task = asyncio.create_task(self._retry(parked))
                self._inflight[parked.key] = (parked.change, task)
                change = parked.change
                task.add_done_callback(partial(self._ended, change))

    async def _retry(self, parked: ParkedWrite) -> None:
        failures = await self._fold_one(parked.change, quiet=True)
        if not failures:
            await self._lot.release(parked.key)
            self._parked.pop(parked.key, None)
            self._counters.parked = len(self._parked)

    async def _settle(self, limit_s: float, slow: set[str]) -> None:
        """Wait for the changes that were begun just now, but not for those known to be slow."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        while (left := end - loop.time()) > 0:
            tasks = [task for key, (_, task) in self._inflight.items() if key not in slow]
            if not tasks:
                return
            await asyncio.wait(tasks, timeout=left)

    async def _pause(self, sequence: int) -> None:
        """Until there may be something to do; briefly, as other processes' pushes wait."""
        tasks = [task for _, task in self._inflight.values()]
        change = asyncio.ensure_future(
            self._log.last_sequence(wait_after=sequence, timeout=_PAUSE_S)
        )
        try:
            await asyncio.wait([change, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if change.done():
                change.result()
        finally:
            change.cancel()
            await asyncio.wait([change])

    # Those who wait.

    def _tell(self, state: FoldState) -> None:
        self._counters.moved(state.sequence, self._counters.log_sequence)
        for future, (sequence, key) in list(self._waiting.items()):
            if not future.done() and self._is_passed(state, sequence, key):
                future.set_result(None)

    @staticmethod
    def _is_passed(state: FoldState, sequence: int, key: str | None) -> bool:
        return state.sequence >= sequence and not any(
            key is None or change.key == key for change in state.pending
        )


_PAUSE_S = 0.01


def state_key(projections: Sequence[Projection]) -> str:
    """Where a set of projections keeps its position.

    ``~`` is in no document's key, so no client gets there. Projections that were not followed
    before make another key, and so begin at the beginning.
    """
    return f"~projection/{compute_hash(sorted(map(_description, projections)))[:32]}"


def _newest(changes: Iterable[LoggedChange], sources: set[str]) -> list[PendingChange]:
    """The last change of each followed document."""
    newest = {each.key: each for each in changes if each.collection in sources}
    return [
        PendingChange(
            collection=each.collection,
            params=dict(each.params),
            key=each.key,
            namespace=each.namespace,
            sequence=each.sequence,
            is_deleted=each.is_deleted,
            identity=each.identity,
            hash=each.hash,
            timestamp=each.timestamp,
        )
        for each in newest.values()
    ]


def _is_transient(parked: ParkedWrite) -> bool:
    return any(each.reason in TRANSIENT for each in parked.failures)


def _description(projection: Projection) -> list[str]:
    target = projection.target
    return [
        *sorted(projection.sources),
        target if isinstance(target, str) else _name(target),
        _name(projection.project),
    ]


def _name(function: object) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{getattr(named, '__qualname__', '')}"

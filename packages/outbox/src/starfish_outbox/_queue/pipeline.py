"""Group commit: the changes of one turn of the event loop, and those that wait, make one commit.

A caller that has been alone for a while is served at once, in the turn in which it asks.

Rule 1: memory follows the storage: an entry changes here when its commit has returned, in commit
order. Rule 2: a caller that is cancelled while it waits learns nothing before the change is either
on disk and in memory, or in neither. Rule 3: a loop that is gone takes its unfinished changes with
it; the next loop reads again before it believes anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from starfish_outbox._queue.backend import (
    ImmediateSession,
    Loaded,
    Outcome,
    PagedSession,
    QueueSession,
)
from starfish_outbox._queue.changes import Change, Rest
from starfish_outbox._queue.entry import NOT_READ, OutboxEntry
from starfish_outbox._queue.entry_json import dumps
from starfish_outbox.errors import (
    NotHydratedError,
    OutboxError,
    OutboxLoopError,
    OutboxPersistenceError,
    OutboxTimeoutError,
)


@dataclass(slots=True)
class _Waiting:
    changes: Sequence[Change]
    future: asyncio.Future[Sequence[Outcome]]
    settled: bool = False

    def settle(self, outcomes: Sequence[Outcome] | Exception) -> None:
        self.settled = True
        if self.future.done():
            return
        if isinstance(outcomes, Exception):
            self.future.set_exception(outcomes)
        else:
            self.future.set_result(outcomes)


class CommitPipeline:
    """The entries of one key in memory, and the changes on their way to its storage."""

    def __init__(
        self,
        key: str,
        session: QueueSession,
        loaded: Loaded,
        on_change: Callable[[CommitPipeline], None],
        timeout_ms: int | None = None,
    ) -> None:
        self.key = key
        self._entries: dict[str, OutboxEntry] | None = {}
        self._rests: dict[str, Rest] = {}
        self._session = session
        self._paged = session if isinstance(session, PagedSession) else None
        self._immediate = session if isinstance(session, ImmediateSession) else None
        self._is_alone = False
        self._has_turn = False
        self._on_change = on_change
        self._timeout_ms = timeout_ms
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[_Waiting] = []
        self._singly: list[_Waiting] = []
        self._running: asyncio.Future[Sequence[Outcome]] | None = None
        self._batch: list[_Waiting] = []
        self._idle: asyncio.Future[None] | None = None
        self._retired = False
        self._is_stale = False
        self._is_left = False
        self._believe(loaded)

    async def submit(self, *changes: Change) -> Sequence[Outcome]:
        """Apply changes, all or none; on disk and in memory when this returns.

        Raises:
            OutboxError: the storage did not take them.
            NotHydratedError: another load has taken this one's place.
        """
        if self._retired:
            raise NotHydratedError
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._adopt(loop)
        if self._is_stale:
            await self._read_again()
        if self._is_alone and self._idle is None and not self._has_turn:
            outcomes = self._commit_now(changes)
            if outcomes is not None:
                await self._end_turn()
                return outcomes
        waiting = _Waiting(changes, loop.create_future())
        self._waiting.append(waiting)
        if self._idle is None:
            self._idle = loop.create_future()
            loop.call_soon(self._start)
        try:
            if self._timeout_ms is None:
                return await waiting.future
            return await self._bounded(waiting, self._timeout_ms)
        except asyncio.CancelledError:
            if not waiting.settled:
                waiting.future = loop.create_future()
            await asyncio.gather(waiting.future, return_exceptions=True)
            raise

    def _commit_now(self, changes: Sequence[Change]) -> Sequence[Outcome] | None:
        """Commit in this very turn of the loop; ``None`` where the storage would have to wait."""
        if self._immediate is None or self._timeout_ms is not None:
            return None
        outcomes = self._immediate.commit_now(changes)
        if outcomes is not None:
            for change, outcome in zip(changes, outcomes, strict=True):
                self._apply(change.id, outcome)
        return outcomes

    async def _end_turn(self) -> None:
        """Let the others run; who asks before they have, is not alone."""
        self._has_turn = True
        try:
            await asyncio.sleep(0)
        finally:
            self._has_turn = False

    async def refresh(self) -> None:
        """Take over what others wrote to the storage."""
        loaded = await self._session.refresh()
        if loaded is None:
            return
        before = self._entries
        self._believe(loaded)
        if before is None or before != self._entries:
            self._on_change(self)

    async def retire(self) -> None:
        """Wait for the changes under way, then refuse every further one."""
        self._retired = True
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._adopt(loop)
        while self._idle is not None:
            await asyncio.wait([self._idle])

    def reinstate(self) -> None:
        """Accept changes again: the load that was to take its place failed."""
        self._retired = False

    def release(self) -> None:
        """Give back the claims."""
        self._session.release()

    def leave(self) -> None:
        """Forget the entries: the queue is bound to another key."""
        self._entries, self._rests, self._is_left = {}, {}, True
        if self._paged is not None:
            self._paged.forget()

    def size(self) -> tuple[int, int]:
        """Entries, and bytes of the JSON text of their items."""
        if self._paged is not None:
            return self._paged.size()
        entries = self.entries()
        return len(entries), sum(len(dumps(entry.item)) for entry in entries)

    @property
    def known(self) -> dict[str, OutboxEntry] | None:
        """The entries in memory, in queue order; ``None`` when there are too many of them."""
        return self._entries

    @property
    def rests(self) -> Mapping[str, Rest]:
        """How long the entries in memory are left alone, by id."""
        return self._rests

    @property
    def paged(self) -> PagedSession | None:
        """Access to a part of the queue, where the storage can read one."""
        return self._paged

    def entries(self) -> list[OutboxEntry]:
        """All entries in queue order; read from the storage when there are too many for memory."""
        if self._entries is not None:
            return list(self._entries.values())
        assert self._paged is not None  # noqa: S101 - only a paged session leaves memory incomplete
        return list(self._paged.read_now().entries)

    def rest(self, entry_id: str) -> Rest | None:
        """How long an entry is left alone."""
        if self._entries is None and self._paged is not None:
            return self._paged.read_now().rests.get(entry_id)
        return self._rests.get(entry_id)

    def _believe(self, loaded: Loaded) -> None:
        self._is_stale = False
        if loaded.is_whole:
            self._entries = {entry.id: entry for entry in loaded.entries}
            self._rests = dict(loaded.rests)
        else:
            self._entries, self._rests = None, {}

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve another event loop; changes that the former one left unfinished are nobody's now."""
        if self._loop is not None and self._loop.is_running():
            raise OutboxLoopError
        self._is_stale = self._running is not None or self._is_stale
        self._waiting, self._singly, self._batch = [], [], []
        self._running = self._idle = None
        self._has_turn = False
        self._loop = loop

    async def _read_again(self) -> None:
        self._believe(await self._session.load())
        self._on_change(self)

    async def _bounded(self, waiting: _Waiting, timeout_ms: int) -> Sequence[Outcome]:
        await asyncio.wait([waiting.future], timeout=timeout_ms / 1000)
        if not waiting.future.done():
            waiting.future.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise OutboxTimeoutError(timeout_ms)
        return waiting.future.result()

    def _start(self) -> None:
        if self._singly:
            batch, self._singly = self._singly[:1], self._singly[1:]
        else:
            batch, self._waiting = self._waiting, []
        self._batch = batch
        self._is_alone = len(batch) == 1
        if self._is_alone:
            changes = batch[0].changes
        else:
            changes = [change for waiting in batch for change in waiting.changes]
        try:
            self._running = asyncio.ensure_future(self._session.commit(changes))
        except Exception as error:  # noqa: BLE001 - a storage that does not even begin
            self._running = asyncio.get_running_loop().create_future()
            self._running.set_exception(error)
        if self._running.done():
            self._finish(self._running)
        else:
            self._running.add_done_callback(self._finish)

    def _finish(self, done: asyncio.Future[Sequence[Outcome]]) -> None:  # noqa: C901 - one decision
        if done is not self._running:
            return  # of a loop that is gone
        batch, self._batch, self._running = self._batch, [], None
        error = _error_of(done, self.key)
        if error is None and len(batch) == 1 and len(batch[0].changes) == 1:
            outcomes = done.result()
            self._apply(batch[0].changes[0].id, outcomes[0])
            batch[0].settle(outcomes)
        elif error is None:
            ends = [0]
            for waiting in batch:
                ends.append(ends[-1] + len(waiting.changes))
            outcomes = done.result()
            for waiting, (begin, end) in zip(batch, pairwise(ends), strict=True):
                for change, outcome in zip(waiting.changes, outcomes[begin:end], strict=True):
                    self._apply(change.id, outcome)
                waiting.settle(outcomes[begin:end])
        elif len(batch) > 1 and not done.cancelled():
            self._singly = batch  # one refused change must not refuse its neighbours
        else:
            for waiting in batch:
                waiting.settle(error)
        if self._singly or self._waiting:
            asyncio.get_running_loop().call_soon(self._start)
        elif self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _apply(self, entry_id: str, outcome: Outcome) -> None:
        if self._is_left:
            return
        if self._entries is None:
            if outcome.changed:
                self._on_change(self)
            return
        known = self._entries.get(entry_id)
        entry = outcome.entry
        if entry is not None and entry.item is NOT_READ:
            if known is None:
                self._is_stale = True  # another queue of this process added it
                return
            entry = replace(entry, item=known.item)
        if entry is None:
            self._entries.pop(entry_id, None)
        else:
            self._entries[entry_id] = entry
            if self._paged is not None and len(self._entries) > self._paged.window:
                self._entries, self._rests = None, {}
        if outcome.rest is not None and entry is not None:
            self._rests[entry_id] = outcome.rest
        else:
            self._rests.pop(entry_id, None)
        if outcome.changed or known != entry:
            self._on_change(self)


def _error_of(done: asyncio.Future[Sequence[Outcome]], key: str) -> Exception | None:
    if done.cancelled():
        return OutboxPersistenceError(key, "the event loop stopped before the storage answered")
    error = done.exception()
    if error is None or isinstance(error, OutboxError):
        return error
    failure = OutboxPersistenceError(key, f"the storage failed: {error!r}")
    failure.__cause__ = error
    return failure

"""Group commit: the changes that wait while one commit is under way make the next one.

Rule 1: memory follows the storage: an entry changes here when its commit has returned, in commit
order. Rule 2: whoever is cancelled while waiting still learns nothing before the change is either
on disk and in memory, or in neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starfish_outbox._backend import Loaded, Outcome, QueueSession
from starfish_outbox._changes import Change
from starfish_outbox._entry import OutboxEntry
from starfish_outbox.errors import NotHydratedError, OutboxError, OutboxPersistenceError


@dataclass(slots=True)
class _Waiting:
    change: Change
    future: asyncio.Future[Outcome]
    settled: bool = False

    def settle(self, outcome: Outcome | Exception) -> None:
        self.settled = True
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class CommitPipeline:
    """The entries of one key in memory, and the changes on their way to its storage."""

    def __init__(
        self,
        key: str,
        session: QueueSession,
        loaded: Loaded,
        on_change: Callable[[CommitPipeline], None],
    ) -> None:
        self.key = key
        self.entries: dict[str, OutboxEntry] = {}
        self.not_before: dict[str, int] = {}
        self._session = session
        self._on_change = on_change
        self._waiting: list[_Waiting] = []
        self._singly: list[_Waiting] = []
        self._running: asyncio.Future[Sequence[Outcome]] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._retired = False
        self._alone = True
        self._believe(loaded)

    async def submit(self, change: Change) -> Outcome:
        """Apply one change; on disk and in memory when this returns.

        Raises:
            OutboxError: the storage did not take it.
            NotHydratedError: another load has taken this one's place.
        """
        if self._retired:
            raise NotHydratedError
        loop = asyncio.get_running_loop()
        waiting = _Waiting(change, loop.create_future())
        self._waiting.append(waiting)
        if self._idle.is_set():
            self._idle.clear()
            # After a lone change another lone one is likely, and need not wait for company.
            if self._alone:
                self._start()
            else:
                loop.call_soon(self._start)
        try:
            return await waiting.future
        except asyncio.CancelledError:
            if not waiting.settled:
                waiting.future = loop.create_future()
            await asyncio.gather(waiting.future, return_exceptions=True)
            raise

    async def refresh(self) -> None:
        """Take over what others wrote to the storage."""
        loaded = await self._session.refresh()
        if loaded is not None:
            self._believe(loaded)
            self._on_change(self)

    async def retire(self) -> None:
        """Wait for what is under way, then refuse every further change."""
        self._retired = True
        await self._idle.wait()

    def reinstate(self) -> None:
        """Accept changes again: the load that was to take its place failed."""
        self._retired = False

    def release(self) -> None:
        """Give back the claims."""
        self._session.release()

    def _believe(self, loaded: Loaded) -> None:
        self.entries = {entry.id: entry for entry in loaded.entries}
        self.not_before = dict(loaded.not_before)

    def _start(self) -> None:
        if self._singly:
            batch, self._singly = self._singly[:1], self._singly[1:]
        else:
            batch, self._waiting = self._waiting, []
        self._alone = len(batch) == 1
        commit = self._session.commit([waiting.change for waiting in batch])
        self._running = asyncio.ensure_future(commit)
        self._running.add_done_callback(lambda done: self._finish(batch, done))

    def _finish(self, batch: list[_Waiting], done: asyncio.Future[Sequence[Outcome]]) -> None:
        error = _error_of(done, self.key)
        if error is None:
            for waiting, outcome in zip(batch, done.result(), strict=True):
                self._apply(waiting.change.id, outcome)
                waiting.settle(outcome)
        elif len(batch) > 1 and not done.cancelled():
            self._singly = batch  # one refused change must not refuse its neighbours
        else:
            for waiting in batch:
                waiting.settle(error)
        if self._singly or self._waiting:
            self._start()
        else:
            self._running = None
            self._idle.set()

    def _apply(self, entry_id: str, outcome: Outcome) -> None:
        known = self.entries.get(entry_id)
        if outcome.entry is None:
            self.entries.pop(entry_id, None)
        else:
            self.entries[entry_id] = outcome.entry
        if outcome.not_before and outcome.entry is not None:
            self.not_before[entry_id] = outcome.not_before
        else:
            self.not_before.pop(entry_id, None)
        if outcome.changed or known != outcome.entry:
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

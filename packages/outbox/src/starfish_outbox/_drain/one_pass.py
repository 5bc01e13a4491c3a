"""One pass: workers take lanes, claim, send, and record.

Rule 1: an entry that was sent leaves with the claim of the next one, in one commit. Rule 2: a
cancellation gives every claim back before it propagates. Rule 3: an outage ends the pass for its
server; when the entry itself may be its cause, a second entry in a row has to meet it first.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from starfish_outbox._drain.attempts import Judgement, Outages, judge
from starfish_outbox._drain.lanes import Lane, Lanes
from starfish_outbox._drain.options import (
    DrainOptions,
    DrainProgress,
    DrainResult,
    Send,
    SendsInLanes,
    SendsVersions,
)
from starfish_outbox._queue.backend import Outcome
from starfish_outbox._queue.changes import Change, Claim, Release, Remove, Replace
from starfish_outbox._queue.entry import OutboxEntry
from starfish_outbox._queue.json_item import encode_item
from starfish_outbox._queue.queue import BackedQueue
from starfish_outbox.errors import NotAuthorised, SendError

logger = logging.getLogger(__name__)

DOUBTS = 2
"""Entries in a row that have to meet an outage which one of them may have caused."""
COMBINED = 256
"""Most entries of a lane that are sent as one."""


@dataclass(slots=True)
class _Done:
    """A send whose success is not recorded yet."""

    changes: list[Change] = field(default_factory=list[Change])
    count: int = 0


class DrainPass:
    """One pass.

    Args:
        queue: where the entries are.
        send: performs the write.
        options: how.
        may_continue: asked before each entry.
        outages: servers that are left alone, and for how long.
    """

    def __init__(
        self,
        queue: BackedQueue,
        send: Send,
        options: DrainOptions,
        may_continue: Callable[[], bool],
        outages: Outages | None = None,
    ) -> None:
        self._queue = queue
        self._binding = queue.binding()
        self._send = send
        sender: object = send
        self._versions = sender if isinstance(sender, SendsVersions) else None
        self._options = options
        self._may_continue = may_continue
        self._outages = Outages() if outages is None else outages
        lane = options.lane
        if lane is None and isinstance(sender, SendsInLanes):
            lane = sender.lane
        self._lanes = Lanes(lane, refusals_hold=options.refused_lane == "wait")
        self._loading = asyncio.Lock()
        self._next_page: int | None = None
        self._end = 0
        self._done = self._sent = self._failed = 0
        self._doubts: dict[Hashable, int] = {}
        self._stopped: dict[Hashable, SendError] = {}
        self.is_renewed = False
        """Whether the application says that it has a new credential."""

    @property
    def next_due(self) -> int | None:
        """When an entry that waits is due, milliseconds since the epoch."""
        return self._lanes.next_due

    async def run(self) -> DrainResult:
        """Send the entries that are due."""
        await self._binding.refresh()
        known = self._binding.known
        if known is None and self._binding.paged is not None:
            self._end = await self._binding.paged.end()
            self._next_page = 0
            await self._load()
        elif known is not None:
            self._lanes.add(known.values(), self._binding.rests, self._options.now_ms())
        lanes = self._options.concurrency if self._next_page is not None else len(self._lanes)
        workers = min(self._options.concurrency, lanes)
        if workers <= 1:
            await self._work()
        else:
            await _run_all([asyncio.create_task(self._work()) for _ in range(workers)])
        return DrainResult(self._sent, self._failed, next(iter(self._stopped.values()), None))

    async def _load(self) -> None:
        """Read pages until there is a lane to begin."""
        paged = self._binding.paged
        async with self._loading:
            while paged is not None and self._next_page is not None and not len(self._lanes):
                page = await paged.page(self._next_page, self._end)
                self._next_page = page.next
                self._lanes.add(page.entries, page.rests, self._options.now_ms())

    async def _work(self) -> None:
        done = _Done()
        lane: Lane | None = None
        while True:
            lane, members = self._take(lane)
            if lane is None and self._next_page is not None and self._goes_on():
                await self._commit_done(done)
                done = _Done()
                await self._load()
                lane, members = self._take(None)
            if lane is None:
                await self._commit_done(done)
                return
            claimed, may_follow = await self._claim(done, members)
            done = _Done()
            if claimed:
                done, may_follow = await self._attempt(lane, claimed)
            if not may_follow:
                self._lanes.end(lane, is_held=True)
                lane = None

    def _take(self, lane: Lane | None) -> tuple[Lane | None, list[OutboxEntry]]:
        """The next entries, of the same lane while it has any."""
        while self._goes_on():
            if lane is not None and not lane.members:
                self._lanes.end(lane, is_held=False)
                lane = None
            if lane is None:
                lane = self._lanes.begin()
            if lane is None:
                return None, []
            server = self._server(lane.members[0])
            rest = self._outages.rest(server, self._options.now_ms())
            if server in self._stopped or rest is not None:
                if rest is not None:
                    self._lanes.note(rest)
                self._lanes.end(lane, is_held=True)
                lane = None
                continue
            return lane, self._together(lane)
        if lane is not None:
            self._lanes.end(lane, is_held=True)
        return None, []

    def _together(self, lane: Lane) -> list[OutboxEntry]:
        """The first entry of a lane, or all that can be sent as one."""
        several = [*lane.members][:COMBINED]
        if self._versions is not None and len(several) > 1 and self._versions.combine(several):
            for _ in several:
                lane.members.popleft()
            return several
        return [lane.members.popleft()]

    def _server(self, entry: OutboxEntry) -> Hashable:
        return None if self._options.server is None else self._options.server(entry)

    def _goes_on(self) -> bool:
        same_key = self._queue.key == self._binding.key
        everything_stopped = self._options.server is None and bool(self._stopped)
        return (
            same_key
            and not everything_stopped
            and not self._queue.is_paused
            and self._may_continue()
        )

    async def _claim(
        self, done: _Done, members: Sequence[OutboxEntry]
    ) -> tuple[list[OutboxEntry], bool]:
        """The entries that are ours now, and whether the next ones of the lane may follow."""
        now = self._options.now_ms()
        claims = [Claim(entry.id, due_by=now) for entry in members]
        claiming = asyncio.ensure_future(self._commit(*done.changes, *claims))
        try:
            outcomes = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The claims are on their way to the storage: see how they end before giving them back.
            await asyncio.wait([claiming])
            if claiming.exception() is None:
                ours = claiming.result()[len(done.changes) :]
                await self._put_back([o.entry.id for o in ours if o.changed and o.entry])
            raise
        self._count(done)
        return await self._kept(outcomes[len(done.changes) :])

    async def _kept(self, outcomes: Sequence[Outcome]) -> tuple[list[OutboxEntry], bool]:
        """The claimed entries in front; claims behind one that somebody else has are given back."""
        kept: list[OutboxEntry] = []
        missing: Outcome | None = None
        too_many: list[str] = []
        for outcome in outcomes:
            if not outcome.changed or outcome.entry is None:
                missing = missing or outcome
            elif missing is None:
                kept.append(outcome.entry)
            else:
                too_many.append(outcome.entry.id)
        if too_many:
            await self._put_back(too_many)
        if missing is None:
            return kept, True
        if missing.rest is not None:
            self._lanes.note(missing.rest)
        there = missing.entry
        goes_on = there is None or (
            there.status == "failed" and self._options.refused_lane == "continue"
        )
        return kept, goes_on and not too_many

    async def _attempt(self, lane: Lane, claimed: Sequence[OutboxEntry]) -> tuple[_Done, bool]:
        """Send; the success that is still to be recorded, and whether the lane goes on."""
        entry = claimed[0]
        if len(claimed) > 1 and self._versions is not None:
            entry = self._versions.combine(claimed) or entry
        try:
            await self._send(entry)
        except Exception as error:  # noqa: BLE001 - whatever a sender raises is a failed attempt
            return _Done(), await self._record(claimed, error)
        except BaseException:
            await self._put_back([member.id for member in claimed])
            raise
        server = self._server(entry)
        self._doubts.pop(server, None)
        self._outages.end(server)
        done = _Done([Remove(member.id) for member in claimed], len(claimed))
        done.changes += self._rebase(entry, lane)
        return done, True

    def _rebase(self, entry: OutboxEntry, lane: Lane) -> list[Change]:
        """Let the next version of the lane build upon the one that was sent."""
        if self._versions is None or not lane.members:
            return []
        later = lane.members[0]
        item = self._versions.rebase(entry, later)
        if item is None:
            return []
        text, copy = encode_item(item)
        return [Replace(later.id, copy, text)]

    async def _record(self, claimed: Sequence[OutboxEntry], error: Exception) -> bool:
        """Record a failure; whether the lane goes on."""
        entry = claimed[0]
        server = self._server(entry)
        judgement = judge(
            entry,
            error,
            max_attempts=self._options.max_attempts,
            backoff=self._options.backoff,
            outages=self._outages.count(server),
            now_ms=self._options.now_ms(),
        )
        if isinstance(error, SendError):
            self._stop_if_certain(server, error, judgement)
        outcomes = await self._commit(*(judgement.change_of(member.id) for member in claimed))
        failed = [o.entry for o in outcomes if o.changed and o.entry and o.entry.status == "failed"]
        self._failed += len(failed)
        if judgement.rest is not None:
            self._lanes.note(judgement.rest)
        level = logging.WARNING if failed else logging.INFO
        logger.log(level, "entry %s was not sent: %s", entry.id, type(error).__name__)
        self._done += len(claimed)
        self._report()
        if isinstance(error, NotAuthorised):
            await self._tell_unauthorized(entry, error)
        return judgement.is_final and self._options.refused_lane == "continue"

    def _stop_if_certain(self, server: Hashable, error: SendError, judgement: Judgement) -> None:
        if judgement.outage == "none":
            self._doubts.pop(server, None)
            return
        self._doubts[server] = self._doubts.get(server, 0) + 1
        if judgement.outage == "certain" or self._doubts[server] >= DOUBTS:
            if server not in self._stopped:
                self._outages.begin(server, judgement.rest)
            self._stopped.setdefault(server, error)

    async def _tell_unauthorized(self, entry: OutboxEntry, error: NotAuthorised) -> None:
        if self._options.on_unauthorized is None:
            return
        try:
            told = self._options.on_unauthorized(entry, error)
            if inspect.isawaitable(told):
                told = await told
            self.is_renewed = self.is_renewed or told is True
        except Exception:
            logger.exception("on_unauthorized failed")

    async def _commit_done(self, done: _Done) -> None:
        if done.changes:
            await self._commit(*done.changes)
            self._count(done)

    def _count(self, done: _Done) -> None:
        if done.count:
            self._sent += done.count
            self._done += done.count
            self._report()

    async def _put_back(self, entry_ids: Sequence[str]) -> None:
        """Release claims although the caller is being cancelled."""
        if not entry_ids:
            return
        releasing = asyncio.ensure_future(self._commit(*(Release(i) for i in entry_ids)))
        await asyncio.wait([releasing])
        error = releasing.exception()
        if error is not None:
            logger.warning("entries %s could not be put back: %s", ", ".join(entry_ids), error)

    async def _commit(self, *changes: Change) -> Sequence[Outcome]:
        return await self._queue.successor(self._binding).submit(*changes)

    def _report(self) -> None:
        if self._options.on_progress is None:
            return
        try:
            self._options.on_progress(
                DrainProgress(self._sent, self._failed, self._done, self._lanes.total)
            )
        except Exception:
            logger.exception("on_progress failed")


async def _run_all(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for all; when one fails or the caller is cancelled, cancel and wait for the rest.

    Each task is cancelled once: a second time would tear it from giving its claim back.
    """
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in sorted(tasks, key=lambda task: task.cancelled()):
        task.result()

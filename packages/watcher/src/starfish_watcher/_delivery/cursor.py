"""Read events at the reader's own pace, each at least once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Final

from starfish_watcher._delivery.checkpoint import Checkpoint, Position, check_history
from starfish_watcher._delivery.hub import Hub
from starfish_watcher._delivery.wake_flag import WakeFlag
from starfish_watcher._limits import MAX_READ_EVENTS
from starfish_watcher._model.event import Event
from starfish_watcher._model.region import Region
from starfish_watcher.errors import CheckpointError, ReaderClosed, StoreClosed, WatcherError
from starfish_watcher.log.base import EventLog

__all__ = ("AsyncCursor", "Cursor")

QUIET_EVENTS: Final = 256
"""Events of other regions that a reader looks through before it saves that it has."""


class Cursor:
    """A position in the events of a region, and an older one that was acknowledged.

    It starts where its checkpoint says, or before the first event. Any number of threads may
    read; each event goes to one of them, and one `ack` covers them all.
    """

    def __init__(
        self, log: EventLog, hub: Hub, region: Region, checkpoint: Checkpoint | None
    ) -> None:
        self._log = log
        self._hub = hub
        self._region = region
        self._checkpoint = checkpoint
        self._lock = threading.Lock()
        self._closed = False
        saved = (checkpoint.load() if checkpoint is not None else None) or Position(0)
        self._acked = saved.position
        if checkpoint is not None and self._acked:
            if self._acked > (last := log.last_sequence()):
                raise CheckpointError(
                    checkpoint.location,
                    f"it stands at sequence {self._acked}, but the store ends at {last}: "
                    "the store lost events or is an older copy",
                )
            check_history(checkpoint.location, saved, log.mark(saved.sequence))
        self._position = self._given = self._acked
        self._flag = WakeFlag()
        hub.attach(region.entity_prefix, self._flag)
        self._flag.put_up()

    @property
    def position(self) -> int:
        """Sequence up to which `poll` has given everything."""
        return self._position

    @property
    def acked(self) -> int:
        """Sequence up to which everything was acknowledged."""
        return self._acked

    def poll(self, max_events: int = 256) -> list[Event]:
        """The next events, without waiting; empty when there is none.

        When there is none, and everything before was acknowledged, the stretch that was looked
        through counts as acknowledged: a reader of a quiet region does not look through it again.

        Raises:
            StoreClosed: the store or the cursor is closed.
            CheckpointError: that cannot be saved.
        """
        with self._lock:
            events, self._position = self.look(self._position, max_events)
        self.gave(events, self._position)
        return events

    def gave(self, events: Sequence[Event], position: int) -> None:
        """Note what a reader got, and acknowledge a stretch without anything for it.

        Raises:
            CheckpointError: that cannot be saved.
        """
        if events:
            self._given = max(self._given, events[-1].sequence)
        elif self._given <= self._acked and position - self._acked >= QUIET_EVENTS:
            self.ack_through(position)

    def look(self, position: int, max_events: int) -> tuple[list[Event], int]:
        """What follows ``position``, and the position after it; moves nothing.

        Raises:
            StoreClosed: the store or the cursor is closed.
        """
        if self._closed:
            raise ReaderClosed("cursor")
        if not 1 <= max_events <= MAX_READ_EVENTS:
            msg = f"max_events is {max_events}; it must be from 1 to {MAX_READ_EVENTS}"
            raise ValueError(msg)
        self._flag.take_down()
        try:
            # Asked first: all that is beyond it was not there to be skipped.
            last = self._log.last_sequence()
            events = list(self._log.read(position, max_events, region=self._region))
        except BaseException as error:
            self._flag.put_up()
            if isinstance(error, WatcherError) and (reason := self._hub.error) is not None:
                # A call that is under way when the store ends is told of that.
                raise StoreClosed.because_of(reason)  # noqa: B904 - its cause is set
            raise
        if len(events) == max_events:
            self._flag.put_up()
            return events, events[-1].sequence
        return events, max(last, position, *(event.sequence for event in events[-1:]))

    def ack(self) -> None:
        """Acknowledge everything that was given so far; on disk when this returns.

        Raises:
            CheckpointError: it cannot be saved; the older acknowledgement holds.
        """
        self.ack_through(self._position)

    def ack_through(self, position: int) -> None:
        """Acknowledge everything up to a sequence; on disk when this returns.

        Raises:
            CheckpointError: it cannot be saved; the older acknowledgement holds.
        """
        with self._lock:
            if self._checkpoint is not None and position > self._acked:
                mark = self._log.mark(position)
                self._checkpoint.save(Position(position, 0, position, mark or b""))
            self._acked = max(self._acked, position)

    def rewind(self) -> None:
        """Go back to the position that was acknowledged; later events come again."""
        with self._lock:
            self._position = self._given = self._acked
        self._flag.put_up()

    def wake(self) -> None:
        """Make the next `wait` return at once."""
        self._flag.put_up()

    def wait(self, timeout: float | None) -> bool:
        """Block until `poll` may have something to give; false when the time is up."""
        return self._flag.wait(timeout)

    async def wait_async(self) -> None:
        """As `wait`, for asyncio."""
        await self._flag.wait_async()

    def pull_batch(self, max_events: int = 256, timeout: float | None = None) -> list[Event]:
        """Up to ``max_events``, waiting for the first one at most ``timeout`` seconds.

        ``None`` waits for ever; when the time is up the list is empty.

        Raises:
            StoreClosed: the store or the cursor is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if batch := self.poll(max_events):
                return batch
            remaining = None if deadline is None else deadline - time.monotonic()
            if (remaining is not None and remaining <= 0) or not self.wait(remaining):
                return []

    def close(self) -> None:
        """Read no more; all that was not acknowledged comes again. May be called twice."""
        if not self._closed and self._given <= self._acked < self._position:
            # Nothing of the region lies between; a reader that cannot save it looks again.
            with contextlib.suppress(WatcherError):
                self.ack_through(self._position)
        self._closed = True
        self._hub.detach(self._region.entity_prefix, self._flag)
        self._flag.put_up()


class AsyncCursor:
    """`Cursor` for asyncio: the log is read in a thread, waiting is the loop's."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._position = cursor.position
        self._turn = asyncio.Lock()

    @property
    def position(self) -> int:
        """As `Cursor.position`."""
        return self._position

    @property
    def acked(self) -> int:
        """As `Cursor.acked`."""
        return self._cursor.acked

    async def poll(self, max_events: int = 256) -> list[Event]:
        """As `Cursor.poll`; a cancelled call has taken nothing."""
        async with self._turn:
            try:
                events, position = await asyncio.to_thread(
                    self._cursor.look, self._position, max_events
                )
            except asyncio.CancelledError:
                self._cursor.wake()
                raise
            self._position = position
            if not events and position - self._cursor.acked >= QUIET_EVENTS:
                await asyncio.to_thread(self._cursor.gave, events, position)
            else:
                self._cursor.gave(events, self._cursor.acked)
        return events

    async def pull_batch(self, max_events: int = 256, timeout: float | None = None) -> list[Event]:
        """As `Cursor.pull_batch`; a cancelled call has taken nothing."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (batch := await self.poll(max_events)):
            remaining = None if deadline is None else deadline - time.monotonic()
            try:
                async with asyncio.timeout(remaining):
                    await self._cursor.wait_async()
            except TimeoutError:
                return []
        return batch

    async def ack(self) -> None:
        """As `Cursor.ack`."""
        await asyncio.to_thread(self._cursor.ack_through, self._position)

    async def rewind(self) -> None:
        """As `Cursor.rewind`."""
        async with self._turn:
            self._position = self._cursor.acked
            self._cursor.wake()

    def close(self) -> None:
        """As `Cursor.close`."""
        self._cursor.close()

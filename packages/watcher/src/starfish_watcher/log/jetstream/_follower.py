"""Read a stream of NATS from one message on and without end, through consumers that come and go.

A consumer lives in the server's memory and may be gone with it, or lose a message on the way. So
what it delivers is counted, and at the first doubt a new consumer begins after all that was taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import nats.errors
from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import NotFoundError

from starfish_watcher.errors import (
    StoreClosed,
    StoreDamagedError,
    StoreUnavailableError,
    WatcherError,
)
from starfish_watcher.log.jetstream._replica import StoredMessage

__all__ = ("StreamFollower",)

logger = logging.getLogger(__name__)
REQUEST_TIMEOUT_S: Final = 5.0
HEARTBEAT_S: Final = 1.0
"""How often the server says that a consumer with nothing to tell is still there."""
PAUSE_S: Final = 0.1
"""Before the next consumer when one could not be made."""


class StreamFollower:
    """Made, renewed and ended on the event loop of its client."""

    def __init__(
        self,
        client: Any,
        stream: str,
        location: str,
        *,
        last_sequence: Callable[[], Awaitable[int]],
        first_missing: Callable[[], int],
        take: Callable[[Sequence[StoredMessage]], None],
        lost: Callable[[WatcherError], None],
    ) -> None:
        """Begin at once.

        Args:
            client: Speaks to the server; its errors stop here.
            stream: What to read.
            location: The same, for messages.
            last_sequence: Asks the stream how far it is.
            first_missing: Where the next consumer begins.
            take: Gets every message in order, in one thread that is not the loop's.
            lost: Called once, when nothing more will come, with the reason.
        """
        self._client = client
        self._stream = stream
        self._location = location
        self._last_sequence = last_sequence
        self._first_missing = first_missing
        self._take = take
        self._lost = lost
        self._taker = ThreadPoolExecutor(1, thread_name_prefix="starfish-replica")
        self._consuming: asyncio.Task[None] | None = None
        self._following = asyncio.create_task(self._follow())

    def renew(self) -> None:
        """The consumer may be gone with the server; a new one begins where that one was."""
        if self._consuming is not None:
            self._consuming.cancel()

    async def end(self) -> None:
        """Take nothing more."""
        for task in (self._following, self._consuming):
            # Before Python 3.12 a wait_for that ends just then forgets that it was cancelled.
            while task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=0.1)

    def join(self) -> None:
        """Return when all that was taken is taken; from any thread but the loop's, after `end`."""
        self._taker.shutdown()

    async def _follow(self) -> None:
        while True:
            self._consuming = asyncio.create_task(self._consume(self._first_missing()))
            done, _ = await asyncio.wait([self._consuming])
            (task,) = done
            error = None if task.cancelled() else task.exception()
            if error is None:
                continue
            if isinstance(error, NotFoundError):
                self._lost(StoreDamagedError(self._location, "the stream is gone"))
                return
            if isinstance(error, WatcherError) and not isinstance(error, StoreUnavailableError):
                self._lost(error)
                return
            if not isinstance(
                error, (StoreUnavailableError, nats.errors.Error, OSError, asyncio.TimeoutError)
            ):
                self._lost(StoreClosed.because_of(error))
                return
            logger.debug("%s: following was interrupted: %r", self._location, error)
            await asyncio.sleep(PAUSE_S)

    async def _consume(self, first: int) -> None:
        if (last := await self._last_sequence()) < first - 1:
            raise StoreDamagedError(
                self._location, f"it ends at message {last}, and {first - 1} were read from it"
            )
        loop = asyncio.get_running_loop()
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox)
        try:
            js = self._client.jetstream(timeout=REQUEST_TIMEOUT_S)
            await js.add_consumer(
                self._stream,
                api.ConsumerConfig(
                    deliver_subject=inbox,
                    deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=first,
                    ack_policy=api.AckPolicy.NONE,
                    max_deliver=1,
                    flow_control=True,
                    idle_heartbeat=HEARTBEAT_S,
                    inactive_threshold=10 * HEARTBEAT_S,
                    mem_storage=True,
                    num_replicas=1,
                ),
            )
            delivered = 0
            while True:
                message = await subscription.next_msg(timeout=3 * HEARTBEAT_S)
                found: list[StoredMessage] = []
                while True:
                    if status := message.headers and message.headers.get("Status"):
                        # Anything but a heartbeat or flow control says that the consumer ended.
                        if status != "100" or not await self._is_complete(message, delivered):
                            return
                    else:
                        metadata = message.metadata
                        delivered += 1
                        if metadata.sequence.consumer != delivered:
                            return
                        found.append(StoredMessage(metadata.sequence.stream, message.data))
                    if not subscription.pending_msgs or len(found) >= 512:
                        break
                    message = await subscription.next_msg(timeout=HEARTBEAT_S)
                if found:
                    await loop.run_in_executor(self._taker, self._take, found)
        finally:
            with suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def _is_complete(self, control: Msg, delivered: int) -> bool:
        """Answer flow control; false when a heartbeat knows of messages that did not come."""
        headers = control.headers or {}
        stalled = headers.get("Nats-Consumer-Stalled") or control.reply
        if stalled:
            await self._client.publish(stalled)
        last = headers.get("Nats-Last-Consumer")
        return last is None or int(last) == delivered

"""A connection to NATS behind a thread of its own, because its client is asynchronous.

Rule 1: the client's errors stop here. Rule 2: no method but `run` waits for the thread, and none
is called from it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from starfish_watcher.errors import (
    StoreClosed,
    StoreDamagedError,
    StoreFullError,
    StoreUnavailableError,
    WatcherError,
)
from starfish_watcher.log.jetstream._follower import StreamFollower
from starfish_watcher.log.jetstream._replica import StoredMessage

__all__ = ("MAX_ATOMIC_MESSAGES", "JetStreamConnection", "LostAnswerError", "WrongSequenceError")

T = TypeVar("T")
logger = logging.getLogger(__name__)
MAX_ATOMIC_MESSAGES: Final = 1000
"""Messages that a server takes as one atomic batch, as it is configured by default."""
CONNECT_TIMEOUT_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 5.0
RECONNECT_PAUSE_S: Final = 0.1
PING_INTERVAL_S: Final = 10
"""How soon a server that vanished without a word is noticed: after two of them."""
_WRONG_SEQUENCE: Final = frozenset({10071, 10164})
_FULL: Final = frozenset({10023, 10047, 10028, 10077})
_NAME_IN_USE: Final = 10058


class WrongSequenceError(Exception):
    """The stream is not where a publication expected it; nothing was written."""


class LostAnswerError(Exception):
    """A publication was sent and nobody said what became of it."""


class JetStreamConnection:
    """Speaks to one stream."""

    def __init__(
        self,
        servers: Sequence[str],
        stream: str,
        options: dict[str, Any],
        *,
        patience_s: float,
        lost: Callable[[WatcherError], None],
    ) -> None:
        """Connect.

        Raises:
            StoreUnavailableError: no server answers, or none lets us in.
        """
        self._servers = list(servers)
        self._stream = stream
        self._patience_s = patience_s
        self._lost = lost
        self._closing = False
        self._giving_up: asyncio.TimerHandle | None = None
        self._follower: StreamFollower | None = None
        self._asking: set[asyncio.Task[Msg]] = set()
        self._cut_off: set[asyncio.Task[Msg]] = set()
        hosts = ",".join(server.rsplit("@", 1)[-1].removeprefix("nats://") for server in servers)
        self.location = f"nats://{hosts}#{stream}"
        """Where the events are, without user and password."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="starfish-nats", daemon=True
        )
        self._thread.start()
        self._client: Any = Client()  # its annotations leave too much unknown
        try:
            self.run(self._connect(options))
        except BaseException:
            self.close()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the thread do ``work`` and return what it returns, with our errors.

        Raises:
            StoreUnavailableError: the server does not answer or refuses.
            StoreFullError: the stream has no room.
            StoreDamagedError: the stream is gone.
            StoreClosed: `close` was called.
        """
        if self._closing:
            work.close()
            raise StoreClosed
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise self._translation(error) from error
        except asyncio.CancelledError:
            raise StoreClosed from None

    def _translation(self, error: BaseException) -> WatcherError:
        reason = str(error) or type(error).__name__
        if isinstance(error, NotFoundError):
            return StoreDamagedError(self.location, "the stream is gone")
        if isinstance(error, APIError):
            reason = error.description or reason
            if error.err_code in _FULL:
                return StoreFullError(self.location, reason)
        return StoreUnavailableError(self.location, reason)

    async def _connect(self, options: dict[str, Any]) -> None:
        try:
            await asyncio.wait_for(
                self._client.connect(
                    self._servers,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    closed_cb=self._on_closed,
                    **{
                        "name": "starfish-watcher",
                        "max_reconnect_attempts": -1,
                        "reconnect_time_wait": RECONNECT_PAUSE_S,
                        "ping_interval": PING_INTERVAL_S,
                        **options,
                    },
                ),
                CONNECT_TIMEOUT_S,
            )
        except TimeoutError as error:
            reason = f"no server answered within {CONNECT_TIMEOUT_S:g} s"
            raise StoreUnavailableError(self.location, reason) from error

    async def _on_error(self, error: Exception) -> None:
        logger.debug("%s: %r", self.location, error)
        transport = self._client._transport  # noqa: SLF001 - it is dropped without being closed
        if transport is not None and not self._client.is_connected:
            transport.close()

    async def _on_disconnected(self) -> None:
        # The client would send later what it could not send now, when nobody waits for it any more,
        # and would let those who wait go on until their time is up.
        self._client._pending.clear()  # noqa: SLF001 - there is no public way
        self._client._pending_data_size = 0  # noqa: SLF001 - likewise
        self._cut_off |= self._asking
        for asking in self._asking:
            asking.cancel()
        if self._giving_up is None and not self._closing:
            self._giving_up = self._loop.call_later(
                self._patience_s, self._give_up, f"no server answered for {self._patience_s:g} s"
            )

    async def _on_reconnected(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        if self._follower is not None:
            self._follower.renew()

    async def _on_closed(self) -> None:
        if not self._closing:
            reason = str(self._client.last_error or "the server ended the connection")
            self._lost(StoreClosed(reason))

    def _give_up(self, reason: str) -> None:
        self._lost(StoreUnavailableError(self.location, reason))

    @property
    def max_payload(self) -> int:
        """Bytes that the server takes in one message."""
        return int(self._client.max_payload)

    def check_connected(self) -> None:
        """Return when there is a connection.

        Raises:
            StoreUnavailableError: there is none, so nothing was sent.
        """
        if not self._client.is_connected:
            raise StoreUnavailableError(self.location, "there is no connection to a server")

    def prepare_stream(self, replicas: int) -> str:
        """Make the stream when it is missing, or check it; returns the id of the store.

        Raises:
            StoreDamagedError: the stream belongs to something else, or would forget events.
            StoreUnavailableError: the server is too old, or refuses.
        """
        version = self._client.connected_server_version
        if (version.major, version.minor) < (2, 12):
            raise StoreUnavailableError(
                self.location, f"the server is {version}; atomic batches need 2.12 or later"
            )
        config = self.run(self._make_stream(replicas))
        store_id = (config.metadata or {}).get("starfish_store_id")
        if store_id is None or config.subjects != [f"{self._stream}.>"]:
            raise StoreDamagedError(self.location, "it is a stream, but not an event log")
        forgets = {
            "retention": config.retention != api.RetentionPolicy.LIMITS,
            "max_age": bool(config.max_age),
            "max_msgs": (config.max_msgs or -1) > 0,
            "max_msgs_per_subject": config.max_msgs_per_subject > 0,
            "discard": config.discard != api.DiscardPolicy.NEW,
            "allow_atomic": not config.allow_atomic,
            "persist_mode": config.persist_mode == api.PersistMode.ASYNC,
        }
        if wrong := [name for name, is_wrong in forgets.items() if is_wrong]:
            raise StoreDamagedError(
                self.location, f"the stream would lose events: {', '.join(wrong)} was changed"
            )
        return store_id

    async def _make_stream(self, replicas: int) -> api.StreamConfig:
        js = self._client.jetstream(timeout=REQUEST_TIMEOUT_S)
        info: api.StreamInfo
        try:
            info = await js.stream_info(self._stream)
        except NotFoundError:
            config = api.StreamConfig(
                name=self._stream,
                subjects=[f"{self._stream}.>"],
                retention=api.RetentionPolicy.LIMITS,
                discard=api.DiscardPolicy.NEW,
                storage=api.StorageType.FILE,
                num_replicas=replicas,
                allow_atomic=True,
                allow_direct=True,
                metadata={"starfish_store_id": uuid.uuid4().hex},
            )
            try:
                info = await js.add_stream(config)
            except APIError as error:
                if error.err_code != _NAME_IN_USE:
                    raise
                # Another process was faster.
                info = await js.stream_info(self._stream)
        return info.config

    async def _request(
        self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Msg:
        """Ask and wait for the answer, at most until the connection is lost.

        Raises:
            StoreUnavailableError: there is no connection; nothing was sent.
        """
        self.check_connected()
        asking: asyncio.Task[Msg] = asyncio.create_task(
            self._client.request(subject, body, timeout=REQUEST_TIMEOUT_S, headers=headers)
        )
        self._asking.add(asking)
        try:
            return await asking
        except asyncio.CancelledError:
            if asking in self._cut_off:
                raise ConnectionResetError("the connection was lost") from None
            raise
        finally:
            self._asking.discard(asking)
            self._cut_off.discard(asking)

    async def last_sequence(self) -> int:
        """Sequence of the newest message of the stream, as its leader says."""
        answer = await self._request(f"$JS.API.STREAM.INFO.{self._stream}")
        info = json.loads(answer.data)
        if "error" in info:
            raise APIError.from_error(info["error"])
        return int(info["state"]["last_seq"])

    async def body_at(self, stream_sequence: int) -> bytes | None:
        """The message, ``None`` when there is none."""
        try:
            js = self._client.jetstream(timeout=REQUEST_TIMEOUT_S)
            message = await js.get_msg(self._stream, stream_sequence)
        except NotFoundError:
            return None
        return bytes(message.data or b"")

    async def stage(self, batch: str, messages: Sequence[tuple[str, bytes]], expected: int) -> None:
        """Send all but the last message of a batch; nothing happens before `commit`."""
        for number, (subject, body) in enumerate(messages, 1):
            self.check_connected()
            headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            if number == 1:
                headers["Nats-Expected-Last-Sequence"] = str(expected)
            await self._client.publish(subject, body, headers=headers)

    async def commit(
        self, batch: str, count: int, message: tuple[str, bytes], expected: int | None
    ) -> int:
        """Send the last of ``count`` messages; returns its sequence when all are stored.

        Raises:
            WrongSequenceError: the stream is not at ``expected``.
            LostAnswerError: it was sent, and may be stored.
            StoreUnavailableError: it was not sent.
        """
        headers: dict[str, str] = {}
        if count > 1:
            headers = {
                "Nats-Batch-Id": batch,
                "Nats-Batch-Sequence": str(count),
                "Nats-Batch-Commit": "1",
            }
        elif expected is not None:
            headers = {"Nats-Expected-Last-Sequence": str(expected)}
        try:
            answer = await self._request(*message, headers)
        except (TimeoutError, nats.errors.Error, OSError) as error:
            if isinstance(error, nats.errors.MaxPayloadError):
                raise
            raise LostAnswerError(str(error) or type(error).__name__) from error
        said = json.loads(answer.data)
        if "error" in said:
            if said["error"].get("err_code") in _WRONG_SEQUENCE:
                raise WrongSequenceError(said["error"].get("description"))
            raise APIError.from_error(said["error"])
        return int(said["seq"])

    async def delete(self, stream_sequences: Sequence[int]) -> None:
        """Overwrite and delete messages; those that are gone already do not count."""

        async def delete_one(sequence: int) -> None:
            answer = await self._request(
                f"$JS.API.STREAM.MSG.DELETE.{self._stream}", json.dumps({"seq": sequence}).encode()
            )
            said = json.loads(answer.data)
            # 10043 and 10057: there is no such message.
            if said.get("error", {}).get("err_code", 10043) not in (10043, 10057):
                raise APIError.from_error(said["error"])

        for start in range(0, len(stream_sequences), 256):
            await asyncio.gather(*map(delete_one, stream_sequences[start : start + 256]))

    def follow(
        self,
        first_missing: Callable[[], int],
        take: Callable[[Sequence[StoredMessage]], None],
    ) -> None:
        """From now on give ``take`` every message from ``first_missing()`` on, in order.

        It is called by one thread, which is not the one that speaks to the server.
        """

        async def start() -> None:
            self._follower = StreamFollower(
                self._client,
                self._stream,
                self.location,
                last_sequence=self.last_sequence,
                first_missing=first_missing,
                take=take,
                lost=self._lost,
            )

        self.run(start())

    def close(self) -> None:
        """End the connection and the thread."""
        self._closing = True

        async def end() -> None:
            if self._follower is not None:
                await self._follower.end()
            if self._giving_up is not None:
                self._giving_up.cancel()
            with suppress(Exception):
                await asyncio.wait_for(self._client.close(), REQUEST_TIMEOUT_S)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for other in others:
                other.cancel()
            if others:
                await asyncio.wait(others, timeout=1)
            await asyncio.sleep(0)  # transports close in the loop's next round

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        if self._follower is not None:
            self._follower.join()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

"""A log in a NATS JetStream stream: extra ``nats``, server 2.12 or later.

The stream is the log: one message an event, on the subject of its entity, and nothing is true
that is not in it. Writers of all processes race for its next sequence: each publishes its group
as one atomic batch that expects the stream to be where the writer judged it, so that the server
decides and a group is stored whole or not at all. Each handle follows the stream into a SQLite
file of its own, where it reads; a read first asks the stream how far it is and waits for the
replica to be there, so that it never misses what any process has appended before.

Durability: the answer of the server means what its configuration says. By default it writes to
the operating system and fsyncs every two minutes; with ``sync_interval: always`` it fsyncs each
message before it answers. The client cannot see which, so `JetStreamEventLog` is told.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any, Final, Literal, NamedTuple

from blake3 import blake3

if find_spec("nats") is None:
    msg = (
        'starfish_watcher.log.jetstream needs the extra nats: pip install "starfish-watcher[nats]"'
    )
    raise ImportError(msg)

from starfish_watcher.errors import (
    AppendUncertainError,
    StoreClosed,
    StoreUnavailableError,
    WatcherError,
)
from starfish_watcher.fault_points import FaultPoint
from starfish_watcher.limits import BUSY_TIMEOUT_S
from starfish_watcher.log._jetstream_connection import (
    MAX_ATOMIC_MESSAGES,
    JetStreamConnection,
    LostAnswerError,
    WrongSequenceError,
)
from starfish_watcher.log._jetstream_listener import ReplicaListener
from starfish_watcher.log._jetstream_messages import (
    ClosingMessage,
    EventMessage,
    RemovalMessage,
    StreamMessage,
    check_stream_name,
    encode_message,
    entity_subject,
    event_messages,
    removal_messages,
)
from starfish_watcher.log._jetstream_replica import PlanBase, Replica, StoredMessage
from starfish_watcher.log.base import AppendResult, EntityHead, History, Listener, Outcome, Stamp
from starfish_watcher.log.plan import AppendPlan, entities_of, keys_of
from starfish_watcher.model.event import Event
from starfish_watcher.model.new_event import Durability, PreparedEvent
from starfish_watcher.model.region import Region

__all__ = ("JetStreamEventLog", "ServerSync")

ServerSync = Literal["interval", "always"]
"""What the server's configuration says of fsync: every ``sync_interval``, or before each answer."""
OVERHEAD_BYTES: Final = 1024
"""Of one message beside entity, scope, key and payload: hashes, ids and headers."""
RESOLVE_S: Final = 10.0
"""How long an append that got no answer asks what became of it."""
STALL_S: Final = BUSY_TIMEOUT_S
"""How long a replica may make no progress before whoever waits for it gives up."""


class _Attempt(NamedTuple):
    """A publication that nobody has answered."""

    position: int
    """It is stored only if it came directly after this message."""
    result: AppendResult


class JetStreamEventLog:
    """Keeps events in one stream that several threads and processes may share."""

    def __init__(
        self,
        servers: str | Sequence[str] = "nats://127.0.0.1:4222",
        *,
        stream: str = "starfish-events",
        server_sync: ServerSync = "interval",
        num_replicas: int = 1,
        replica_path: str | os.PathLike[str] | None = None,
        patience_s: float = 300.0,
        connect_options: dict[str, Any] | None = None,
    ) -> None:
        """Connect, make the stream when it is missing, and read what is in it.

        Args:
            servers: Addresses of the servers of one cluster.
            stream: Name of the stream, and first token of its subjects.
            server_sync: What the server does before it answers; only with ``always`` an append
                with the durability ``commit`` is accepted.
            num_replicas: Servers that keep the stream, when it is made here.
            replica_path: Where the replica is kept for the next time; a temporary file when
                ``None``. One log at a time may use it.
            patience_s: How long listeners wait for a server that went away before they give up.
            connect_options: More arguments of ``nats.connect``: credentials, TLS.

        Raises:
            StoreDamagedError: the stream is something else, or was set to forget messages.
            StoreUnavailableError: no server answers, it is too old, or the replica is in use.
            ValueError: ``stream`` is not legal; the message says what is.
        """
        check_stream_name(stream)
        self._stream = stream
        self._server_sync: ServerSync = server_sync
        self._writer = uuid.uuid4().bytes
        self._write_lock = threading.Lock()
        self._listeners: list[ReplicaListener] = []
        self._fatal: WatcherError | None = None
        self._opened_at: int | None = None
        self._replica = Replica(replica_path, self._writer)
        try:
            self._connection = JetStreamConnection(
                [servers] if isinstance(servers, str) else servers,
                stream,
                connect_options or {},
                patience_s=patience_s,
                lost=self._on_lost,
            )
        except BaseException:
            self._replica.close()
            raise
        try:
            self._store_id = self._connection.prepare_stream(num_replicas)
            self._replica.begin(self._store_id, self._has_message)
            self._connection.follow(lambda: self._replica.applied + 1, self._take)
            self._catch_up()
            self._opened_at = self._replica.position
        except BaseException:
            self._connection.close()
            self._replica.close()
            raise

    @property
    def location(self) -> str:
        """Servers and stream."""
        return self._connection.location

    @property
    def store_id(self) -> str:
        """Made with the stream and kept in its metadata."""
        return self._store_id

    def _has_message(self, position: int, mark: bytes) -> bool:
        body = self._connection.run(self._connection.body_at(position))
        return body is not None and blake3(body).digest() == mark

    def _take(self, messages: Sequence[StoredMessage]) -> None:
        if self._replica.has_hole(messages):
            # Whoever deletes messages has said so in the stream before.
            last = self._connection.run(self._connection.last_sequence())
            self._replica.hold_until(last)
        self._replica.apply(messages)
        if self._opened_at is not None and self._replica.closed_at > self._opened_at:
            self._on_lost(StoreClosed("another handle of it was closed everywhere"))

    def _on_lost(self, error: WatcherError) -> None:
        if not isinstance(error, StoreUnavailableError):
            self._fatal = self._fatal or error
        for listener in self._listeners:
            listener.fail(error)
        self._replica.wake()

    def _catch_up(self) -> None:
        """Return when the replica shows what was in the stream when this was called."""
        self._check_usable()
        self._connection.check_connected()
        target = self._connection.run(self._connection.last_sequence())
        while not self._replica.wait_for(target, STALL_S, lambda: self._fatal is not None):
            self._check_usable()
            position = self._replica.applied
            if position == self._stalled_at:
                reason = f"nothing of it was read for {STALL_S:g} s"
                raise StoreUnavailableError(self.location, reason)
            self._stalled_at = position

    _stalled_at = -1

    def _check_usable(self) -> None:
        if self._fatal is not None:
            raise _own_copy(self._fatal)

    def append(
        self,
        requests: Sequence[Sequence[PreparedEvent]],
        *,
        stamp: Stamp,
        durability: Durability,
        reached: Callable[[FaultPoint], None],
    ) -> AppendResult:
        """As `EventLog.append`: an atomic batch for each 1,000 events.

        A request of more than 1,000 events, or with an event that the server's ``max_payload``
        has no room for, is refused with `StoreUnavailableError` as its outcome.

        Raises:
            AppendUncertainError: a server fell silent during the commit.
            StoreUnavailableError: also when ``commit`` is more than the server does.
        """
        if durability == "commit" and self._server_sync != "always":
            reason = (
                "durability 'commit' is refused: the server fsyncs on an interval; set "
                "'sync_interval: always' there and server_sync='always' here, or use 'batched'"
            )
            raise StoreUnavailableError(self.location, reason)
        outcomes: list[Outcome] = []
        events: list[Event] = []
        with self._write_lock:
            self._check_usable()
            for chunk in self._chunks(requests):
                if isinstance(chunk, WatcherError):
                    outcomes.append(chunk)
                    continue
                try:
                    result = self._append_chunk(chunk, stamp, reached)
                except WatcherError as error:
                    if not events:
                        raise
                    outcomes += [_own_copy(error) for _ in chunk]
                    continue
                outcomes += result.outcomes
                events += result.events
            if events and events[-1].sequence - events[0].sequence >= len(events):
                # Another process came between two chunks, and a result has no holes.
                first = events[0].sequence
                count = events[-1].sequence - first + 1
                events = [*self._replica.log.read(first - 1, count)]
        return AppendResult(outcomes, events)

    def _chunks(
        self, requests: Sequence[Sequence[PreparedEvent]]
    ) -> Iterator[list[Sequence[PreparedEvent]] | WatcherError]:
        chunk: list[Sequence[PreparedEvent]] = []
        size = 0
        for request in requests:
            refusal = self._refusal(request)
            if refusal or size + len(request) > MAX_ATOMIC_MESSAGES:
                if chunk:
                    yield chunk
                chunk, size = [], 0
            if refusal:
                yield refusal
            else:
                chunk.append(request)
                size += len(request)
        if chunk:
            yield chunk

    def _refusal(self, request: Sequence[PreparedEvent]) -> WatcherError | None:
        if len(request) > MAX_ATOMIC_MESSAGES:
            return StoreUnavailableError(
                self.location,
                f"a batch of {len(request)} events is refused: a server stores at most "
                f"{MAX_ATOMIC_MESSAGES} messages at one moment",
            )
        for item in request:
            names = len(item.entity) + len(item.scope) + len(item.idempotency_key or "")
            size = len(item.payload_bytes) + 4 * names + OVERHEAD_BYTES
            if size > self._connection.max_payload:
                return StoreUnavailableError(
                    self.location,
                    f"an event of {len(item.payload_bytes)} payload bytes is refused: the "
                    f"server's max_payload is {self._connection.max_payload}",
                )
        return None

    def _append_chunk(
        self,
        requests: Sequence[Sequence[PreparedEvent]],
        stamp: Stamp,
        reached: Callable[[FaultPoint], None],
    ) -> AppendResult:
        entities, keys = entities_of(requests), keys_of(requests)
        unanswered: list[_Attempt] = []
        race = _Race(self.location)
        up_to_date = False
        self._connection.check_connected()
        while True:
            base = self._replica.plan_base(entities, keys)
            if result := self._find_committed(unanswered, base):
                return result
            plan = AppendPlan(base.last_sequence, base.heads, base.records, stamp)
            outcomes = [plan.add(request) for request in requests]
            if not up_to_date and (
                not plan.events or any(isinstance(outcome, WatcherError) for outcome in outcomes)
            ):
                # The server judges what is published; what is not, must be judged on the newest.
                self._catch_up()
                up_to_date = True
                continue
            result = AppendResult(outcomes, plan.events)
            if not plan.events:
                reached("after_write")
                return result
            messages = event_messages(plan, self._writer)
            try:
                self._publish(messages, base.position, reached)
            except WrongSequenceError:
                race.lose()
            except LostAnswerError as error:
                unanswered.append(_Attempt(base.position, result))
                race.fall_silent(error)
            except WatcherError as error:
                if not unanswered:
                    raise
                raise AppendUncertainError(self.location, str(error)) from error
            else:
                return result
            self._catch_up_after(race, unanswered)
            up_to_date = True

    def _find_committed(self, unanswered: list[_Attempt], base: PlanBase) -> AppendResult | None:
        for attempt in [one for one in unanswered if one.position < base.position]:
            unanswered.remove(attempt)
            event = attempt.result.events[0]
            found = self._replica.log.read(event.sequence - 1, 1)
            if found and found[0].id_bytes == event.id_bytes:
                return attempt.result
            if not found or found[0].sequence != event.sequence:
                raise AppendUncertainError(self.location, "compaction was faster")
        return None

    def _catch_up_after(self, race: _Race, unanswered: Sequence[_Attempt]) -> None:
        while True:
            try:
                self._catch_up()
            except StoreUnavailableError as error:
                if not unanswered:
                    raise
                if race.is_over():
                    raise AppendUncertainError(self.location, race.reason) from error
                time.sleep(0.05)
            else:
                if race.is_over() and unanswered:
                    raise AppendUncertainError(self.location, race.reason)
                return

    def _publish(
        self,
        messages: Sequence[StreamMessage],
        position: int,
        reached: Callable[[FaultPoint], None],
    ) -> None:
        """Store messages directly after ``position``, and take them into the replica."""
        encoded = [(self._subject(message), encode_message(message)) for message in messages]
        batch = uuid.uuid4().hex
        if encoded[1:]:
            self._connection.run(self._connection.stage(batch, encoded[:-1], position))
            reached("mid_batch")
        reached("after_write")
        self._connection.run(self._connection.commit(batch, len(encoded), encoded[-1], position))
        try:
            self._replica.apply(
                [
                    StoredMessage(number, body)
                    for number, (_, body) in enumerate(encoded, position + 1)
                ]
            )
        except WatcherError as error:
            raise AppendUncertainError(self.location, f"stored, but not read: {error}") from error

    def _subject(self, message: StreamMessage) -> str:
        if isinstance(message, EventMessage):
            return entity_subject(self._stream, message.fields[1])
        if isinstance(message, RemovalMessage):
            return f"{self._stream}.removal"
        return f"{self._stream}.closing"

    def read(
        self, after: int, limit: int, *, entity: str | None = None, region: Region | None = None
    ) -> Sequence[Event]:
        """As `EventLog.read`."""
        self._catch_up()
        return self._replica.log.read(after, limit, entity=entity, region=region)

    def get(self, event_id: bytes) -> Event | None:
        """As `EventLog.get`."""
        self._catch_up()
        return self._replica.log.get(event_id)

    def head(self, entity: str) -> EntityHead:
        """As `EventLog.head`."""
        self._catch_up()
        return self._replica.log.head(entity)

    def heads(self, prefix: str | None) -> dict[str, EntityHead]:
        """As `EventLog.heads`."""
        self._catch_up()
        return self._replica.log.heads(prefix)

    def last_sequence(self) -> int:
        """As `EventLog.last_sequence`."""
        self._catch_up()
        return self._replica.log.last_sequence()

    def history(
        self, entity: str, *, after: int, kinds: Sequence[int], raw: bool
    ) -> AbstractContextManager[History]:
        """As `EventLog.history`."""
        self._catch_up()
        return self._replica.log.history(entity, after=after, kinds=kinds, raw=raw)

    def remove(self, sequences: Sequence[int]) -> int:
        """As `EventLog.remove`: a record of it in the stream, then the messages are deleted.

        From the record on no reader sees the events. Whoever dies before all messages are
        deleted leaves the rest hidden in the stream, for the next one who removes something.
        """
        race = _Race(self.location)
        lost = 0
        with self._write_lock:
            self._catch_up()
            while True:
                position, last, removed = self._replica.removal_base(sequences)
                if not removed:
                    break
                parts = removal_messages(
                    self._writer, last, removed, self._connection.max_payload // 2
                )
                if len(parts) > MAX_ATOMIC_MESSAGES:
                    reason = f"a removal of {len(removed)} events is refused: remove fewer at once"
                    raise StoreUnavailableError(self.location, reason)
                try:
                    self._publish(parts, position, lambda _: None)
                except WrongSequenceError:
                    race.lose()
                except LostAnswerError as error:
                    lost = len(removed)
                    race.fall_silent(error)
                else:
                    lost = len(removed)
                    break
                self._catch_up()
        leftovers = self._replica.leftovers()
        self._connection.run(self._connection.delete(leftovers))
        self._replica.forget_leftovers(leftovers)
        return lost

    def listen(
        self, changed: Callable[[], bool], failed: Callable[[BaseException], None]
    ) -> Listener:
        """As `EventLog.listen`: a thread that waits for the replica."""
        listener = ReplicaListener(self._replica, changed, failed)
        self._listeners = [one for one in self._listeners if one.alive] + [listener]
        if self._fatal is not None:
            listener.fail(self._fatal)
        return listener

    def announce_close(self) -> None:
        """As `EventLog.announce_close`: a message in the stream."""
        body = encode_message(ClosingMessage(self._writer))
        message = (f"{self._stream}.closing", body)
        try:
            self._connection.run(self._connection.commit("", 1, message, None))
        except LostAnswerError as error:
            raise StoreUnavailableError(self.location, str(error)) from error

    def flush(self) -> None:
        """Nothing is left to do here: when the server fsyncs is a matter of its configuration."""

    def close(self) -> None:
        """End the connection and release the replica."""
        for listener in self._listeners:
            listener.close()
        for listener in self._listeners:
            listener.join()
        self._connection.close()
        self._replica.close()


class _Race:
    """How long a writer goes on against others, or against silence."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._ends_at = time.monotonic() + BUSY_TIMEOUT_S
        self._lost = 0
        self.reason = ""

    def lose(self) -> None:
        """Another writer was faster: let it pass.

        Raises:
            StoreUnavailableError: that was so for too long.
        """
        if time.monotonic() > self._ends_at:
            reason = f"other writers were faster for {BUSY_TIMEOUT_S:g} s"
            raise StoreUnavailableError(self._location, reason)
        self._lost += 1
        time.sleep(random.uniform(0, min(0.0005 * 2 ** min(self._lost, 10), 0.05)))  # noqa: S311 - spreads writers, hides nothing

    def fall_silent(self, error: LostAnswerError) -> None:
        """No answer came: from now on there is less time."""
        self.reason = str(error)
        self._ends_at = min(self._ends_at, time.monotonic() + RESOLVE_S)

    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self._ends_at


def _own_copy(error: WatcherError) -> WatcherError:
    """The same error for one of several callers, so that their tracebacks do not mix."""
    copy = error.__class__.__new__(error.__class__)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy

"""Publish to the event log's stream: a group of appends is one atomic batch after a known message.

The server decides each race: all that was judged on an older stream is refused, judged again and
published again. A publication that got no answer is looked up in the stream before anybody is told
what became of it.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from starfish_watcher._limits import BUSY_TIMEOUT_S
from starfish_watcher._model.event import Event
from starfish_watcher._model.new_event import Durability, PreparedEvent
from starfish_watcher.errors import (
    AppendUncertainError,
    LimitExceededError,
    StoreUnavailableError,
    WatcherError,
)
from starfish_watcher.fault_points import FaultPoint
from starfish_watcher.log.base import AppendResult, Outcome, Stamp
from starfish_watcher.log.jetstream._connection import (
    MAX_ATOMIC_MESSAGES,
    JetStreamConnection,
    LostAnswerError,
    WrongSequenceError,
)
from starfish_watcher.log.jetstream._messages import (
    ClosingMessage,
    EventMessage,
    RemovalMessage,
    StreamMessage,
    encode_message,
    entity_subject,
    event_messages,
    removal_messages,
)
from starfish_watcher.log.jetstream._replica import PlanBase, Replica, StoredMessage
from starfish_watcher.log.plan import AppendPlan, entities_of, keys_of

__all__ = ("JetStreamWriter", "ServerSync")

ServerSync = Literal["interval", "always"]
"""What the server's configuration says of fsync: every ``sync_interval``, or before each answer."""
OVERHEAD_BYTES: Final = 1024
"""Of one message beside entity, scope, key and payload: hashes, ids and headers."""
RESOLVE_S: Final = 10.0
"""How long an append that got no answer asks what became of it."""


class _Attempt(NamedTuple):
    """A publication that nobody has answered."""

    position: int
    """It is stored only if it came directly after this message."""
    result: AppendResult


class JetStreamWriter:
    """Publishes for one handle; safe to use from many threads, which take turns."""

    def __init__(
        self,
        connection: JetStreamConnection,
        replica: Replica,
        *,
        stream: str,
        writer_id: bytes,
        server_sync: ServerSync,
        catch_up: Callable[[], None],
        check_usable: Callable[[], None],
    ) -> None:
        """Publish nothing yet.

        Args:
            connection: Leads to the stream.
            replica: All that was read of the stream; publications are added at once.
            stream: Name of the stream.
            writer_id: In each message, so that this handle knows its own.
            server_sync: As `JetStreamEventLog`.
            catch_up: Returns when the replica shows all that is in the stream.
            check_usable: Raises when the handle can do nothing any more.
        """
        self._connection = connection
        self._replica = replica
        self._stream = stream
        self._writer_id = writer_id
        self._server_sync = server_sync
        self._catch_up = catch_up
        self._check_usable = check_usable
        self._lock = threading.Lock()

    def append(
        self,
        requests: Sequence[Sequence[PreparedEvent]],
        *,
        stamp: Stamp,
        durability: Durability,
        reached: Callable[[FaultPoint], None],
    ) -> AppendResult:
        """As `JetStreamEventLog.append`."""
        if durability == "commit" and self._server_sync != "always":
            reason = (
                "durability 'commit' is refused: the server fsyncs on an interval; set "
                "'sync_interval: always' there and server_sync='always' here, or use 'batched'"
            )
            raise LimitExceededError(self._connection.location, reason)
        outcomes: list[Outcome] = []
        events: list[Event] = []
        with self._lock:
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
                    outcomes += [error.own_copy() for _ in chunk]
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
            return LimitExceededError(
                self._connection.location,
                f"a batch of {len(request)} events is too large: a server stores at most "
                f"{MAX_ATOMIC_MESSAGES} messages at one moment",
            )
        for item in request:
            names = len(item.entity) + len(item.scope) + len(item.idempotency_key or "")
            size = (
                len(item.payload_bytes)
                + len(item.metadata_bytes or b"")
                + 4 * names
                + OVERHEAD_BYTES
            )
            if size > self._connection.max_payload:
                return LimitExceededError(
                    self._connection.location,
                    f"an event of {len(item.payload_bytes)} payload bytes is too large: the "
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
        race = _Race(self._connection.location)
        up_to_date = False
        self._connection.check_connected()
        while True:
            base = self._replica.plan_base(entities, keys)
            if result := self._find_committed(unanswered, base):
                return result
            plan = AppendPlan(base.last_sequence, base.heads, base.records, stamp, base.newest_id)
            outcomes = [plan.add(request) for request in requests]
            if not up_to_date and (
                not plan.events or any(isinstance(outcome, WatcherError) for outcome in outcomes)
            ):
                # The server judges all that is published; all that is not, must be judged on the newest.
                self._catch_up()
                up_to_date = True
                continue
            result = AppendResult(outcomes, plan.events)
            if not plan.events:
                reached("after_write")
                return result
            messages = event_messages(plan, self._writer_id)
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
                raise AppendUncertainError(self._connection.location, str(error)) from error
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
                raise AppendUncertainError(self._connection.location, "compaction was faster")
        return None

    def _catch_up_after(self, race: _Race, unanswered: Sequence[_Attempt]) -> None:
        while True:
            try:
                self._catch_up()
            except StoreUnavailableError as error:
                if not unanswered:
                    raise
                if race.is_over():
                    raise AppendUncertainError(self._connection.location, race.reason) from error
                time.sleep(0.05)
            else:
                if race.is_over() and unanswered:
                    raise AppendUncertainError(self._connection.location, race.reason)
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
            raise AppendUncertainError(
                self._connection.location, f"stored, but not read: {error}"
            ) from error

    def _subject(self, message: StreamMessage) -> str:
        if isinstance(message, EventMessage):
            return entity_subject(self._stream, message.fields[1])
        if isinstance(message, RemovalMessage):
            return f"{self._stream}.removal"
        return f"{self._stream}.closing"

    def remove(self, sequences: Sequence[int]) -> int:
        """As `JetStreamEventLog.remove`."""
        race = _Race(self._connection.location)
        lost = 0
        with self._lock:
            self._catch_up()
            while True:
                position, last, removed = self._replica.removal_base(sequences)
                if not removed:
                    break
                parts = removal_messages(
                    self._writer_id, last, removed, self._connection.max_payload // 2
                )
                if len(parts) > MAX_ATOMIC_MESSAGES:
                    reason = f"a removal of {len(removed)} events is refused: remove fewer at once"
                    raise StoreUnavailableError(self._connection.location, reason)
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

    def announce_close(self) -> None:
        """As `JetStreamEventLog.announce_close`."""
        body = encode_message(ClosingMessage(self._writer_id))
        message = (f"{self._stream}.closing", body)
        try:
            self._connection.run(self._connection.commit("", 1, message, None))
        except LostAnswerError as error:
            raise StoreUnavailableError(self._connection.location, str(error)) from error


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

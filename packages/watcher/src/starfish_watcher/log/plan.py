"""Decide what a group of appends becomes: pure, so that every log judges alike.

A log reads the heads of `entities_of` and the records of `keys_of` at the moment of its write,
plans, and writes ``events``, ``heads`` and ``records``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from starfish_watcher._model.event import Event
from starfish_watcher._model.new_event import NEW, Expected, PreparedEvent
from starfish_watcher._model.receipt import Receipt
from starfish_watcher.errors import (
    IdempotencyConflictError,
    SequenceConflictError,
    WatcherError,
)
from starfish_watcher.hash_chain import event_hash
from starfish_watcher.log.base import NO_EVENTS, EntityHead, Outcome, Stamp

__all__ = ("AppendPlan", "KeyRecord", "entities_of", "keys_of")


class KeyRecord(NamedTuple):
    """All that is kept of the append that used an idempotency key."""

    content: bytes
    """`PreparedEvent.content` of that append."""
    receipt: Receipt
    """What it returned."""


def entities_of(requests: Sequence[Sequence[PreparedEvent]]) -> list[str]:
    """The entities whose heads a plan needs, each once, in order."""
    return list(dict.fromkeys(item.entity for request in requests for item in request))


def keys_of(requests: Sequence[Sequence[PreparedEvent]]) -> list[str]:
    """The idempotency keys whose records a plan needs, each once, in order."""
    keys = (item.idempotency_key for request in requests for item in request)
    return list(dict.fromkeys(key for key in keys if key is not None))


def _position(generation: int) -> str:
    """Where an entity is, in the words of `SequenceConflictError`."""
    return NEW.value if generation == 0 else f"clock {generation - 1}"


class AppendPlan:
    """Grows by one request at a time; a refused request leaves nothing behind."""

    def __init__(
        self,
        last_sequence: int,
        heads: Mapping[str, EntityHead],
        records: Mapping[str, KeyRecord],
        stamp: Stamp,
        newest_id: bytes | None = None,
    ) -> None:
        if newest_id is not None:
            stamp.seen(newest_id)
        self.events: list[Event] = []
        """What to write, by sequence without a hole."""
        self.heads: dict[str, EntityHead] = {}
        """Heads that the events lead to."""
        self.records: dict[str, KeyRecord] = {}
        """Idempotency keys to remember."""
        self._sequence = last_sequence
        self._known_heads = heads
        self._known_records = records
        self._stamp = stamp

    def add(self, request: Sequence[PreparedEvent]) -> Outcome:
        """Plan one request: its receipts, or why it is refused."""
        sequence = self._sequence
        events: list[Event] = []
        heads: dict[str, EntityHead] = {}
        records: dict[str, KeyRecord] = {}
        receipts: list[Receipt] = []
        timestamp_us = self._stamp.now_us()
        for index, item in enumerate(request):
            content = b""
            if (key := item.idempotency_key) is not None:
                content = item.content
                earlier = records.get(key) or self.records.get(key) or self._known_records.get(key)
                if earlier is not None:
                    if earlier.content != content:
                        if key not in records:
                            return IdempotencyConflictError(key, earlier.receipt.sequence)
                        keys = [each.idempotency_key for each in request]
                        return IdempotencyConflictError(key, 0, keys.index(key))
                    receipts.append(earlier.receipt)
                    continue
            entity = item.entity
            head = (
                heads.get(entity)
                or self.heads.get(entity)
                or self._known_heads.get(entity, NO_EVENTS)
            )
            if refusal := _judge(item, head, index if len(request) > 1 else None):
                return refusal
            sequence += 1
            event = self._event(item, head, sequence, timestamp_us, receipts)
            receipt = Receipt(event.id_bytes, sequence, event.clock, event.event_hash)
            events.append(event)
            receipts.append(receipt)
            heads[entity] = EntityHead(
                head.generation + 1, sequence, event.event_hash, head.removed
            )
            if key is not None:
                records[key] = KeyRecord(content, receipt)
        self._sequence = sequence
        self.events += events
        self.heads.update(heads)
        self.records.update(records)
        return tuple(receipts)

    def _event(
        self,
        item: PreparedEvent,
        head: EntityHead,
        sequence: int,
        timestamp_us: int,
        receipts: Sequence[Receipt],
    ) -> Event:
        event_id = self._stamp.next_id()
        cause = (
            item.causation_bytes if item.caused_by is None else receipts[item.caused_by].id_bytes
        )
        return Event(
            sequence,
            item.entity,
            item.scope,
            head.generation,
            item.kind_code,
            event_id,
            timestamp_us,
            item.correlation_bytes,
            cause,
            item.payload_bytes,
            head.event_hash,
            event_hash(
                head.event_hash,
                sequence=sequence,
                clock=head.generation,
                kind_code=item.kind_code,
                timestamp_us=timestamp_us,
                event_id=event_id,
                correlation_id=item.correlation_bytes,
                causation_id=cause,
                entity=item.entity,
                scope=item.scope,
                payload_hash=item.payload_hash,
                metadata=item.metadata_bytes,
            ),
            item.metadata_bytes,
        )


def _judge(item: PreparedEvent, head: EntityHead, index: int | None) -> WatcherError | None:
    expected = item.expected
    if expected is None:
        return None
    wanted = 0 if isinstance(expected, Expected) else expected + 1
    if wanted == head.generation:
        return None
    return SequenceConflictError(item.entity, _position(wanted), _position(head.generation), index)

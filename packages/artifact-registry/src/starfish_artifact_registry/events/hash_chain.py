"""The chain of digests: whether events are those that were written, and which is the first that is not."""

from __future__ import annotations

from collections.abc import Iterable

from starfish_artifact_registry import event_digest as digests
from starfish_artifact_registry._moment import to_ms
from starfish_artifact_registry.errors import LogDamagedError
from starfish_artifact_registry.events.codec import Event
from starfish_artifact_registry.events.log import Head

__all__ = ("check_events",)


def check_events(head: Head, events: Iterable[Event]) -> Head:
    """Return the head after events that follow one, if each is as it was written.

    Raises:
        LogDamagedError: one is not, or one is missing; the error names the first.
    """
    for event in events:
        if event.sequence != head.sequence + 1:
            raise LogDamagedError(head.sequence + 1, f"it is missing; {event.sequence} is next")
        if event.prev_digest != head.event_digest:
            raise LogDamagedError(event.sequence, "it does not follow the event before it")
        if digests.payload_digest(event.payload) != event.payload_digest:
            raise LogDamagedError(event.sequence, "its payload does not have its digest")
        record = digests.record_digest(
            sequence=event.sequence,
            event_id=event.event_id,
            package_id=event.package_id,
            event_type=event.event_type,
            payload_digest=event.payload_digest,
            actor=event.actor,
            created_at_ms=to_ms(event.created_at),
        )
        if digests.event_digest(event.prev_digest, record) != event.event_digest:
            raise LogDamagedError(event.sequence, "its envelope does not have its digest")
        head = Head(event.sequence, event.event_digest)
    return head

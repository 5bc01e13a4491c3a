"""What a runner keeps of partitions and of events that it passed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from starfish_protocol.events import Event

__all__ = ("Member", "ParkedEvent", "Place", "Progress", "Work")


class Place(NamedTuple):
    """How far one partition is."""

    sequence: int
    """Of the newest event that had its effects, or had none for it; 0 before the first."""
    position: str
    """The same, bound to the history of the source; empty before the first."""


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that a view could not take, or was told not to."""

    view: str
    """Name of the view."""
    sequence: int
    """Of the event."""
    entity: str
    """Of the event; empty when it was parked before it came."""
    kind: str
    """Of the event, as text."""
    event_id: str
    """Of the event, as text; empty where its source has no ids."""
    reason: str
    """The error of the view, or the reason that was given when it was parked."""
    parked_ms: int
    """When, by the sink's clock, milliseconds since the epoch."""
    attempts: int
    """How often it failed."""


@dataclass(frozen=True, slots=True)
class Member:
    """One partition and who works on it."""

    partition: int
    """From 0."""
    sequence: int
    """How far it is."""
    owner: str | None
    """The process that has the lease; ``None`` for nobody."""
    lease_ms: int
    """When the lease ends, by the sink's clock, milliseconds since the epoch."""
    events: int
    """Events that had effects or were parked, in all processes."""


class Progress(NamedTuple):
    """What one commit did."""

    applied: int
    """Events that had effects."""
    parked: int
    """Pairs of view and event that were recorded instead."""


class Work(NamedTuple):
    """What one commit is to do."""

    events: Sequence[Event]
    """All that were read, by sequence."""
    place: Place
    """Where this leads to."""

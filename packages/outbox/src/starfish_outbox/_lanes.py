"""Which entries a drain sends, in which order; no I/O and no clock.

Entries of one lane are sent in queue order, one at a time. Lanes do not wait for each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from starfish_outbox._entry import OutboxEntry

LaneOf = Callable[[OutboxEntry], Hashable]
"""Names the lane of an entry."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What can be sent now."""

    lanes: deque[deque[OutboxEntry]]
    """Lanes whose first entry is due, the one with the oldest entry first."""
    next_due: int | None
    """When the first of the other lanes is due, milliseconds since the epoch."""


def plan(
    entries: Iterable[OutboxEntry],
    not_before: Mapping[str, int],
    now_ms: int,
    lane: LaneOf | None = None,
) -> Plan:
    """Sort entries into lanes and tell those that are due from those that wait.

    ``failed`` entries are left out: they wait for `retry` and hold nobody back. An entry that is
    being sent holds its lane back, as does one whose time has not come.

    Examples:
        >>> a, b = (OutboxEntry(i, None, "queued", 0, 0) for i in "ab")
        >>> plan([a, b], {"a": 500}, now_ms=100).next_due
        500
    """
    lanes: dict[Hashable, deque[OutboxEntry]] = {}
    for entry in entries:
        if entry.status != "failed":
            name = ("id", entry.id) if lane is None else ("lane", lane(entry))
            lanes.setdefault(name, deque()).append(entry)
    due: deque[deque[OutboxEntry]] = deque()
    later: list[int] = []
    for members in lanes.values():
        head = members[0]
        at = not_before.get(head.id, 0)
        if head.status == "queued" and at <= now_ms:
            due.append(members)
        elif at:
            later.append(at)
    return Plan(due, min(later, default=None))

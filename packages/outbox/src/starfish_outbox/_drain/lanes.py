"""Which entries a drain sends, in which order; no I/O and no clock.

Entries of one lane are sent in queue order, one at a time. Lanes do not wait for each other. Entries
may come in several parts, the older part first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from starfish_outbox._queue.changes import Rest
from starfish_outbox._queue.entry import OutboxEntry

LaneOf = Callable[[OutboxEntry], Hashable]
"""Names the lane of an entry."""


@dataclass(slots=True, eq=False)
class Lane:
    """Entries that are sent one after the other."""

    name: Hashable
    members: deque[OutboxEntry] = field(default_factory=deque[OutboxEntry])


class Lanes:
    """Sorts entries into lanes and tells the lanes that are due from those that wait.

    ``failed`` entries are left out: they wait for `retry`, and hold their lane back only where
    ``refusals_hold``. An entry that is being sent holds its lane back, as does one that rests.

    Args:
        lane: names the lane of an entry; without it every entry is its own lane.
        refusals_hold: whether a ``failed`` entry holds back the later ones of its lane.

    Examples:
        >>> a, b = (OutboxEntry(i, None, "queued", 0, 0) for i in "ab")
        >>> lanes = Lanes()
        >>> lanes.add([a, b], {"a": Rest(until=500, length_ms=450)}, now_ms=100)
        >>> lanes.next_due, [member.id for member in lanes.begin().members]
        (500, ['b'])
    """

    def __init__(self, lane: LaneOf | None = None, *, refusals_hold: bool = False) -> None:
        self.next_due: int | None = None
        """When the first of the waiting lanes is due, milliseconds since the epoch."""
        self.total = 0
        """Entries of lanes that were due."""
        self._lane = lane
        self._refusals_hold = refusals_hold
        self._open: dict[Hashable, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._held: set[Hashable] = set()

    def add(self, entries: Iterable[OutboxEntry], rests: Mapping[str, Rest], now_ms: int) -> None:
        """Sort the next part of the queue."""
        for entry in entries:
            is_failed = entry.status == "failed"
            if is_failed and not self._refusals_hold:
                continue
            name = ("id", entry.id) if self._lane is None else ("lane", self._lane(entry))
            if name in self._held:
                continue
            lane = self._open.get(name)
            rest = rests.get(entry.id)
            if lane is None and (is_failed or not _is_due(entry, rest, now_ms)):
                self._held.add(name)
                if rest is not None and not is_failed:
                    self.note(rest)
                continue
            if lane is None:
                lane = self._open[name] = Lane(name)
                self._ready.append(lane)
            lane.members.append(entry)
            self.total += 1

    def begin(self) -> Lane | None:
        """The lane with the oldest entry that nobody has begun yet."""
        return self._ready.popleft() if self._ready else None

    def end(self, lane: Lane, *, is_held: bool) -> None:
        """Give a lane back: its later entries begin a new one, or wait for the next pass."""
        self._open.pop(lane.name, None)
        if is_held:
            self._held.add(lane.name)

    def note(self, rest: Rest) -> None:
        """Count a rest that began during the pass."""
        self.next_due = rest.until if self.next_due is None else min(self.next_due, rest.until)

    def __len__(self) -> int:
        return len(self._ready)


def _is_due(entry: OutboxEntry, rest: Rest | None, now_ms: int) -> bool:
    return entry.status == "queued" and (rest is None or rest.is_over(now_ms))

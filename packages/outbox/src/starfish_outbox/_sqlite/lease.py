"""How long a claim is its holder's.

Rule 1: where holder and reader are on one machine, a lease is measured on the machine's clock since boot,
which nobody sets: a jump of the wall clock neither ends a lease nor makes one longer. Rule 2: elsewhere the
wall clock counts, and a lease that seems to last longer than it is long has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from starfish_outbox._queue.changes import Rest
from starfish_outbox._sqlite.process import is_of_this_machine


class Lease(NamedTuple):
    """A claim as a row has it."""

    owner: str | None
    until: int
    """By the holder's wall clock, milliseconds since the epoch."""
    length_ms: int
    until_since_boot: int
    """By the clock of the holder's machine, milliseconds; 0 where an older version wrote it."""


class LeaseClock:
    """Begins leases and tells whether they are over.

    Args:
        length_ms: of the leases that begin here.
        now_ms: the wall clock, milliseconds since the epoch.
        since_boot_ms: the clock of this machine that nobody sets, milliseconds.
    """

    def __init__(
        self, length_ms: int, now_ms: Callable[[], int], since_boot_ms: Callable[[], int]
    ) -> None:
        self._length_ms = length_ms
        self._now_ms = now_ms
        self._since_boot_ms = since_boot_ms

    def begin(self, owner: str) -> Lease:
        """A lease that begins now."""
        until = self._now_ms() + self._length_ms
        return Lease(owner, until, self._length_ms, self._since_boot_ms() + self._length_ms)

    def is_over(self, lease: Lease) -> bool:
        """Whether another may claim the entry."""
        if _is_measured_here(lease):
            return self._since_boot_ms() >= lease.until_since_boot
        return Rest(lease.until, lease.length_ms).is_over(self._now_ms())

    def rest(self, lease: Lease) -> Rest:
        """How long it lasts from now on, by the wall clock of this process."""
        if not _is_measured_here(lease):
            return Rest(lease.until, lease.length_ms)
        left_ms = max(0, lease.until_since_boot - self._since_boot_ms())
        return Rest(self._now_ms() + left_ms, left_ms)


def _is_measured_here(lease: Lease) -> bool:
    is_known = lease.until_since_boot > 0 and lease.owner is not None
    return is_known and is_of_this_machine(str(lease.owner))

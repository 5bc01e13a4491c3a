"""What a queue needs from a storage.

Rule 1: `QueueSession.commit` is one atomic, durable step: all changes or none. Rule 2: its
outcomes are what the storage holds afterwards; the queue believes them, not its memory. Rule 3: a
queue never has two commits of one session under way, and never cancels one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from starfish_outbox._changes import Change
from starfish_outbox._entry import OutboxEntry, Quarantined


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one change."""

    changed: bool
    """Whether this change did something."""
    entry: OutboxEntry | None
    """The entry as it is stored now, ``None`` when there is none."""
    not_before: int = 0
    """Earliest next try, milliseconds since the epoch; for another's claim: when it ends."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The whole of a queue."""

    entries: Sequence[OutboxEntry]
    """In queue order."""
    not_before: Mapping[str, int] = field(default_factory=dict[str, int])
    """Earliest next try by id, where there is one."""
    quarantined: Sequence[Quarantined] = ()
    """What was put aside by this load."""


class QueueSession(Protocol):
    """One queue's access to one key."""

    async def load(self) -> Loaded:
        """Read everything; claims whose holder is gone are ``queued``.

        Raises:
            OutboxError: the storage could not be read; nothing was changed.
        """
        ...

    def commit(self, changes: Sequence[Change]) -> Awaitable[Sequence[Outcome]]:
        """Apply changes in order, all or none; on disk when the result is there.

        Raises:
            OutboxError: (from the awaitable) the storage did not take them; nothing was changed.
        """
        ...

    async def refresh(self) -> Loaded | None:
        """Read again if somebody else may have written; ``None`` when memory is up to date."""
        ...

    def release(self) -> None:
        """Give back what this session claimed; returns at once, happens before any later load."""
        ...


@runtime_checkable
class QueueBackend(Protocol):
    """A storage of queues that keeps more than texts by key."""

    def bind(self, key: str) -> QueueSession:
        """Access to one key; does no I/O."""
        ...

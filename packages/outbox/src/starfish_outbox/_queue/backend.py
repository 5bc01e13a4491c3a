"""What a queue needs from a storage.

Rule 1: `QueueSession.commit` is one atomic, durable step: all changes or none. Rule 2: its
outcomes are what the storage holds afterwards; the queue believes them, not its memory. Rule 3: a
queue never has two commits of one session under way, and never cancels one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from starfish_outbox._queue.changes import Change, Rest
from starfish_outbox._queue.entry import OutboxEntry, Quarantined


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one change."""

    changed: bool
    """Whether this change did something."""
    entry: OutboxEntry | None
    """The entry as it is stored now, ``None`` when there is none."""
    rest: Rest | None = None
    """How long it is left alone; for the claim of another holder: how long that one has it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A queue as it is stored."""

    entries: Sequence[OutboxEntry]
    """In queue order."""
    rests: Mapping[str, Rest] = field(default_factory=dict[str, Rest])
    """By id, where there is one."""
    quarantined: Sequence[Quarantined] = ()
    """Values that this load put aside."""
    is_whole: bool = True
    """``False`` when the queue is too long for memory: then the session is a `PagedSession`."""


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
        """Give back every claim of this session; returns at once, happens before any later load."""
        ...


@runtime_checkable
class ImmediateSession(Protocol):
    """A session that can often commit without waiting for anything but the disk."""

    def commit_now(self, changes: Sequence[Change]) -> Sequence[Outcome] | None:
        """As `QueueSession.commit`, on the caller's thread; ``None``, and nothing done, where it cannot.

        Raises:
            OutboxError: the storage did not take them; nothing was changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a long queue, in queue order."""

    entries: Sequence[OutboxEntry]
    rests: Mapping[str, Rest]
    """By id, where there is one."""
    next: int | None
    """Where the next page begins; ``None`` at the end."""


@runtime_checkable
class PagedSession(Protocol):
    """A session that can read a part of its queue."""

    @property
    def window(self) -> int:
        """Entries that are kept in memory; a longer queue is read page by page."""
        ...

    def size(self) -> tuple[int, int]:
        """Entries, and bytes of their items, as far as this process has seen."""
        ...

    def forget(self) -> None:
        """Let go of the memory that nobody reads any more; changes still work."""
        ...

    async def end(self) -> int:
        """A position behind the last entry that there is now."""
        ...

    async def page(self, begin: int, end: int) -> Page:
        """The entries from one position on, as many as fit a page, and none behind the other."""
        ...

    def read_now(self) -> Loaded:
        """Everything, on the caller's thread."""
        ...


@runtime_checkable
class QueueBackend(Protocol):
    """A storage of queues that keeps more than texts by key."""

    def bind(self, key: str) -> QueueSession:
        """Access to one key; does no I/O."""
        ...

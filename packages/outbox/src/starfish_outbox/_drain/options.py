"""What a pass is told, and what it tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from starfish_outbox._clock import system_now_ms
from starfish_outbox._drain.backoff import Backoff
from starfish_outbox._drain.lanes import LaneOf
from starfish_outbox._queue.entry import OutboxEntry
from starfish_outbox.errors import NotAuthorised, SendError

Send = Callable[[OutboxEntry], Awaitable[object]]
"""Performs the write of an entry; an exception means that it was not performed."""
ServerOf = Callable[[OutboxEntry], Hashable]
"""Names the server that an entry goes to."""
OnUnauthorized = Callable[[OutboxEntry, NotAuthorised], object]
"""Is told that a credential was refused; may be a coroutine function.

A result of ``True`` says that there is a new credential: a run goes on at once.
"""
RefusedLane = Literal["continue", "wait"]
"""What becomes of the entries behind one that was refused."""


@runtime_checkable
class SendsInLanes(Protocol):
    """A ``send`` that knows which entries belong together."""

    def lane(self, entry: OutboxEntry) -> Hashable:
        """Names the lane of an entry."""
        ...


@runtime_checkable
class SendsVersions(Protocol):
    """A ``send`` whose entries are versions of something."""

    def rebase(self, done: OutboxEntry, later: OutboxEntry) -> Any | None:
        """The item of a later entry of the lane, now that another was sent; ``None``: as it is."""
        ...

    def combine(self, entries: Sequence[OutboxEntry]) -> OutboxEntry | None:
        """One entry in place of several of a lane; ``None`` to send them one by one."""
        ...


@dataclass(frozen=True, slots=True)
class DrainResult:
    """The work of one pass."""

    sent: int
    """Entries that were sent and removed."""
    failed: int
    """Entries that became ``failed``."""
    stopped: SendError | None = field(default=None, compare=False, repr=False)
    """`Unreachable` or `NotAuthorised` where one of them ended the pass early."""


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """How far a pass is."""

    sent: int
    """Entries that were sent and removed so far."""
    failed: int
    """Entries that became ``failed`` so far."""
    done: int
    """Entries this pass is through with, sent or not."""
    total: int
    """Entries this pass began with; of a long queue those that were read so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainOptions:
    """How a pass goes about it; see `drain_outbox`."""

    max_attempts: int = 5
    concurrency: int = 1
    lane: LaneOf | None = None
    server: ServerOf | None = None
    refused_lane: RefusedLane = "continue"
    backoff: Backoff | None = None
    on_progress: Callable[[DrainProgress], object] | None = None
    on_unauthorized: OnUnauthorized | None = None
    now_ms: Callable[[], int] = system_now_ms

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}, must be at least 1")
        if self.concurrency < 1:
            raise ValueError(f"concurrency is {self.concurrency}, must be at least 1")
        if self.refused_lane not in get_args(RefusedLane):
            raise ValueError(
                f"refused_lane is {self.refused_lane!r}, must be one of continue, wait"
            )

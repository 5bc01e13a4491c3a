"""Errors of the outbox.

* OutboxError
  - NotHydratedError            a change before `OutboxQueue.hydrate`
  - OutboxClosedError           location
  - OutboxForkedError           location
  - OutboxLoopError             one queue on two event loops at the same time
  - OutboxTimeoutError          timeout_ms
  - OutboxFullError             limit, allowed
  - OutboxPersistenceError      location, reason
    - OutboxDamagedError        the file is not an outbox, or is damaged
    - OutboxMovedError          the file was moved, removed or replaced while it was open
    - UnsupportedSchemaError    found, supported
  - SendError                   an ordinary failure of a send
    - RetryAfterError           delay_ms
    - Unreachable               delay_ms, is_certain
    - NotAuthorised             is_certain
    - PermanentSendError        never to be tried again without `retry`
      - Refused
      - Conflict
"""

from __future__ import annotations

__all__ = (
    "Conflict",
    "NotAuthorised",
    "NotHydratedError",
    "OutboxClosedError",
    "OutboxDamagedError",
    "OutboxError",
    "OutboxForkedError",
    "OutboxFullError",
    "OutboxLoopError",
    "OutboxMovedError",
    "OutboxPersistenceError",
    "OutboxTimeoutError",
    "PermanentSendError",
    "Refused",
    "RetryAfterError",
    "SendError",
    "Unreachable",
    "UnsupportedSchemaError",
)


class OutboxError(Exception):
    """Base of every error that this package raises on purpose."""


class NotHydratedError(OutboxError):
    """A queue was changed before it was bound to a key; nothing was kept."""

    def __init__(self) -> None:
        super().__init__("the queue is not bound to a key: await hydrate(key) before changing it")


class OutboxClosedError(OutboxError):
    """A storage was used after its `close`; nothing was kept."""

    def __init__(self, location: str) -> None:
        super().__init__(f"{location} is closed: open a new one")
        self.location = location
        """Which storage."""


class OutboxForkedError(OutboxError):
    """A storage was opened before a fork and used in the child; nothing was kept."""

    def __init__(self, location: str) -> None:
        super().__init__(
            f"{location} was opened before this process was forked: open it again in the child"
        )
        self.location = location
        """Which storage."""


class OutboxLoopError(OutboxError):
    """A queue was used on a second event loop while the first one still runs; nothing was kept."""

    def __init__(self) -> None:
        super().__init__("the queue is in use on another running event loop: open one queue a loop")


class OutboxTimeoutError(OutboxError):
    """A change did not end within the time that the application allows; it may still be stored."""

    def __init__(self, timeout_ms: int) -> None:
        super().__init__(f"the storage did not answer within {timeout_ms} ms; it may still do so")
        self.timeout_ms = timeout_ms
        """The time allowed, milliseconds."""


class OutboxFullError(OutboxError):
    """The queue holds as much as the application allows; the entry was not added."""

    def __init__(self, limit: str, allowed: int, wanted: int) -> None:
        super().__init__(f"{limit} would be {wanted}, allowed are {allowed}")
        self.limit = limit
        """``max_entries`` or ``max_bytes``."""
        self.allowed = allowed
        """The bound."""
        self.wanted = wanted
        """Entries, or bytes of items, with the one that was refused."""


class OutboxPersistenceError(OutboxError):
    """The storage did not take a change or could not be read; the queue is as it was before."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"{location}: {reason}")
        self.location = location
        """Which storage: a path or a key."""
        self.reason = reason
        """The answer of the storage."""


class OutboxDamagedError(OutboxPersistenceError):
    """A file is not an outbox, or its pages are damaged; it was left as it is."""


class OutboxMovedError(OutboxPersistenceError):
    """A file was moved, removed or replaced while it was open; nothing was kept."""


class UnsupportedSchemaError(OutboxPersistenceError):
    """A file was written by a newer version of this package; it was left as it is."""

    def __init__(self, location: str, found: int, supported: int) -> None:
        super().__init__(
            location, f"schema version {found} is newer than {supported}, the newest known here"
        )
        self.found = found
        """Version in the file."""
        self.supported = supported
        """Newest version that this package reads."""


class SendError(OutboxError):
    """A send failed and may be tried again; any other exception of a sender means the same."""


class RetryAfterError(SendError):
    """A send failed, and the other side said when to come back; counts as an attempt."""

    def __init__(self, reason: str, delay_ms: int) -> None:
        super().__init__(f"{reason}; not before {delay_ms} ms from now")
        self.delay_ms = delay_ms
        """How long to wait at least, milliseconds."""


class Unreachable(SendError):  # noqa: N818 - named after the situation, as an application says it
    """The server did not answer, or something else answered in its place.

    Does not count as an attempt: the entry stays ``queued``, and the pass ends for that server.

    Args:
        reason: the observation: the error of the connection, or the status.
        delay_ms: how long the server asked to wait, milliseconds; ``None`` when it did not.
        is_certain: ``False`` when the entry itself may be the cause, as with a status of 500: then
            the pass tries one other entry before it ends.
    """

    def __init__(
        self, reason: str, *, delay_ms: int | None = None, is_certain: bool = True
    ) -> None:
        super().__init__(reason)
        self.delay_ms = delay_ms
        """How long to wait at least, milliseconds."""
        self.is_certain = is_certain
        """Whether every other entry would meet the same."""


class NotAuthorised(SendError):  # noqa: N818 - as above
    """The credential was refused, not the write.

    Does not count as an attempt: the entry stays ``queued``, the pass ends, and the application is
    told by ``on_unauthorized``.

    Args:
        reason: the answer of the server.
        is_certain: ``False`` when this entry alone may be forbidden: then the pass tries one other
            entry before it ends.
    """

    def __init__(self, reason: str, *, is_certain: bool = True) -> None:
        super().__init__(reason)
        self.is_certain = is_certain
        """Whether every other entry would meet the same."""


class PermanentSendError(SendError):
    """A send that will never succeed as it is: the entry becomes ``failed`` at once."""


class Refused(PermanentSendError):  # noqa: N818 - as above
    """The server read this very write and will not take it: the entry becomes ``failed`` at once."""


class Conflict(PermanentSendError):  # noqa: N818 - as above
    """Two edits contradict each other, and a person has to decide.

    The entry becomes ``failed`` with a failure of the kind ``conflict``.
    """

"""Errors of the outbox.

* OutboxError
  - NotHydratedError            a change before `OutboxQueue.hydrate`
  - OutboxClosedError           location
  - OutboxPersistenceError      location, reason
    - OutboxDamagedError        the file is no outbox, or is damaged
    - UnsupportedSchemaError    found, supported
  - SendError                   what a sender raises; an ordinary failure
    - RetryAfterError           delay_ms
    - PermanentSendError        never to be tried again without `retry`
"""

from __future__ import annotations

__all__ = (
    "NotHydratedError",
    "OutboxClosedError",
    "OutboxDamagedError",
    "OutboxError",
    "OutboxPersistenceError",
    "PermanentSendError",
    "RetryAfterError",
    "SendError",
    "UnsupportedSchemaError",
)


class OutboxError(Exception):
    """Base of every error that this package raises on purpose."""


class NotHydratedError(OutboxError):
    """A queue was changed before it was bound to a key; nothing was kept."""

    def __init__(self) -> None:
        super().__init__("the queue is bound to no key: await hydrate(key) before changing it")


class OutboxClosedError(OutboxError):
    """A storage was used after its `close`; nothing was kept."""

    def __init__(self, location: str) -> None:
        super().__init__(f"{location} is closed: open a new one")
        self.location = location
        """Which storage."""


class OutboxPersistenceError(OutboxError):
    """The storage did not take a change or could not be read; the queue is as it was before."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"{location}: {reason}")
        self.location = location
        """Which storage: a path or a key."""
        self.reason = reason
        """What the storage answered."""


class OutboxDamagedError(OutboxPersistenceError):
    """A file is not an outbox, or its pages are damaged; it was left as it is."""


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
    """A send failed, and the other side said when to come back."""

    def __init__(self, reason: str, delay_ms: int) -> None:
        super().__init__(f"{reason}; not before {delay_ms} ms from now")
        self.delay_ms = delay_ms
        """How long to wait at least, milliseconds."""


class PermanentSendError(SendError):
    """A send that will never succeed as it is: the entry becomes ``failed`` at once."""

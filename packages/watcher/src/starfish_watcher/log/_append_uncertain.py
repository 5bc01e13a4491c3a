"""The error of an append to a server that fell silent while it committed."""

from __future__ import annotations

from starfish_watcher.errors import WatcherError

__all__ = ("AppendUncertainError",)


class AppendUncertainError(WatcherError):
    """The server fell silent during a commit and did not come back to say whether it was done.

    Repeating the append with an idempotency key is safe; without one, read first.
    """

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(
            f"event store {location} did not say whether the append was committed: {reason}; "
            "an idempotency key makes repeating it safe"
        )
        self.location = location
        """Which store: a path or a name, never a secret."""
        self.reason = reason
        """What the driver said."""

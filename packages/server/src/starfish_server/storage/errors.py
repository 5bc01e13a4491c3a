"""Errors of the store contract.

* starfish_server.errors.StoreError
  - PreconditionFailedError   key, current
  - OutcomeUnknownError       key, write_id
  - ValueTooLargeError        key, size, limit
  - InvalidPositionError      position
  - PositionLostError         position, reason
  - NotSupportedError         store, call
"""

from __future__ import annotations

from starfish_server.errors import StoreError
from starfish_server.storage.values import Metadata

__all__ = (
    "InvalidPositionError",
    "NotSupportedError",
    "OutcomeUnknownError",
    "PositionLostError",
    "PreconditionFailedError",
    "ValueTooLargeError",
)


class PreconditionFailedError(StoreError):
    """A conditional write found another version and changed nothing."""

    def __init__(self, key: str, current: Metadata | None) -> None:
        found = "no value" if current is None else f"version {current.etag}"
        super().__init__(f"key {key[:200]!r} holds {found}, not the version that was expected")
        self.key = key
        """The key that was to be written."""
        self.current = current
        """Of the version that the key holds; ``None`` when it holds none."""


class OutcomeUnknownError(StoreError):
    """A write was sent and its answer was lost: it happened, or will, or did not.

    Read the key again: when its ``write_id`` is the one that was written, the write happened.
    """

    def __init__(self, key: str, write_id: int, reason: str) -> None:
        super().__init__(f"the outcome of a write to key {key[:200]!r} is not known: {reason}")
        self.key = key
        """The key that was to be written."""
        self.write_id = write_id
        """The number of the write."""


class ValueTooLargeError(StoreError, ValueError):
    """A value is longer than the store can hold; nothing was written."""

    def __init__(self, key: str, size: int, limit: int) -> None:
        super().__init__(
            f"the value for key {key[:200]!r} has {size} bytes; it must have at most {limit}"
        )
        self.key = key
        """The key that was to be written."""
        self.size = size
        """Bytes of the value, as far as they were counted."""
        self.limit = limit
        """Bytes that the store holds at most."""


class InvalidPositionError(StoreError, ValueError):
    """A text is not a position of any change log."""

    def __init__(self, position: str) -> None:
        super().__init__(f"{position[:200]!r} is not a position of a change log")
        self.position = position
        """The text that was given."""


class PositionLostError(StoreError):
    """A change log cannot be followed from a position: some changes would be missed in silence.

    Read the documents anew and follow the log from its end.
    """

    def __init__(self, position: str, reason: str) -> None:
        super().__init__(f"the log cannot be followed from position {position!r}: {reason}")
        self.position = position
        """The position that was given."""
        self.reason = reason
        """Why not, in words."""


class NotSupportedError(StoreError):
    """A store cannot do what an optional call of the contract asks for."""

    def __init__(self, store: str, call: str) -> None:
        super().__init__(f"{store} does not support {call}")
        self.store = store
        """Name of the store's class."""
        self.call = call
        """The call, in words."""

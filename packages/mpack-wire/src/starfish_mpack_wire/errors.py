"""Errors of the wire.

* MPackError
  - MPackFormatError            bytes that are no pack, a record that breaks a rule (also a ValueError)
  - MPackIntegrityError         a hash that does not fit: expected, actual
  - MPackLimitError             limit, value, allowed: larger than the reader accepts (also a ValueError)
  - ObjectNotFoundError         object_id
  - RefConflictError            branch, expected, actual: somebody else moved it
  - NonFastForwardError         branch, head, current
  - IncompleteHistoryError      missing: a parent, snapshot or blob that neither pack nor store holds
  - UnsafePathError             path: must not reach a working tree
  - StoreError                  the local store cannot be opened, is full, is damaged
  - WireError                   what a peer answered, as its client sees it
    - RemoteNotFoundError       unknown, or not ours to know
    - RemoteRefusedError        status, code: 401, 403, 409, 422
    - RemoteUnavailableError    retries are used up
    - RemoteProtocolError       an answer that is none of the protocol's
"""

from __future__ import annotations

from starfish_protocol.errors import StarfishError

__all__ = (
    "MPackError",
    "MPackFormatError",
    "MPackIntegrityError",
    "MPackLimitError",
)


class MPackError(StarfishError):
    """Base of every error that this package raises on purpose."""


class MPackFormatError(MPackError, ValueError):
    """Bytes are not a pack of this format, or a record breaks a rule of it."""


class MPackIntegrityError(MPackError):
    """Bytes do not have the id that was promised for them."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(f"{what} is {actual}, expected {expected}")
        self.what = what
        """What was hashed."""
        self.expected = expected
        """The id that was promised."""
        self.actual = actual
        """The id that the bytes have."""


class MPackLimitError(MPackError, ValueError):
    """Something is larger than the reader accepts."""

    def __init__(self, limit: str, value: int, allowed: int) -> None:
        super().__init__(f"{limit} is {value}, at most {allowed} are accepted")
        self.limit = limit
        """The field of `Limits` that was exceeded."""
        self.value = value
        """What was found or declared."""
        self.allowed = allowed
        """The most that is accepted."""

"""Errors of the server.

* ServerError
  - ConfigError                 problems
  - StoreError
    - StoreUnavailableError     location
    - InvalidKeyError           key, rule
"""

from __future__ import annotations

from collections.abc import Sequence

from starfish_protocol.errors import StarfishError

__all__ = (
    "ConfigError",
    "InvalidKeyError",
    "ServerError",
    "StoreError",
    "StoreUnavailableError",
)


class ServerError(StarfishError):
    """Base of every error that this package raises on purpose."""


class ConfigError(ServerError, ValueError):
    """A configuration cannot be served; every problem is listed, not just the first."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
        """One sentence a problem: the place, the value, and the allowed values."""


class StoreError(ServerError):
    """A store could not do what it was asked."""


class StoreUnavailableError(StoreError):
    """The storage behind a store does not answer: locked, full, damaged or gone."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"store {location} is unavailable: {reason}")
        self.reason = reason
        """Why not, in words."""
        self.location = location
        """Which store: a path or a name, never a secret."""


class InvalidKeyError(StoreError, ValueError):
    """A key cannot name a document."""

    def __init__(self, key: str, rule: str) -> None:
        super().__init__(f"key {key[:200]!r} is refused: {rule}")
        self.key = key
        """The key that was refused."""
        self.rule = rule
        """What a key must look like."""

"""Errors of authentication.

* ServerError
  - AuthError                   status
  - TokenFileError              path
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from starfish_server.errors import ServerError

__all__ = ("AuthError", "TokenFileError")


class AuthError(ServerError):
    """A request's credentials are refused; the message reaches the client and holds no secret.

    A resolver may raise anything: the router answers 401 unless the exception has a ``status`` of
    403 or 413.
    """

    def __init__(
        self, message: str = "unauthorized", *, status: Literal[401, 403, 413] = 401
    ) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of the answer."""


class TokenFileError(ServerError, ValueError):
    """A file of tokens cannot be read or written, or a new entry is refused."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"token file {path}: {reason}")
        self.path = path
        """Which file."""

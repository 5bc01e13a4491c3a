"""A refusal by a role resolver.

* ServerError
  - AuthError                   status
"""

from __future__ import annotations

from typing import Literal

from starfish_server.errors import ServerError

__all__ = ("AuthError",)


class AuthError(ServerError):
    """A request's credentials are refused; the message reaches the client and holds no secret.

    A resolver may raise anything: the router answers 401 unless the exception has a ``status`` of
    403 or 413.
    """

    def __init__(self, message: str = "unauthorized", *, status: Literal[401, 403, 413] = 401) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of the answer."""

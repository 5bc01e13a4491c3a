"""A request that is refused in the words of the public protocol.

* ServerError
  - RequestRefusedError         status, error, fields, headers
"""

from __future__ import annotations

from typing import Any

from starfish_server.errors import ServerError

__all__ = ("RequestRefusedError",)


class RequestRefusedError(ServerError):
    """A request is answered with an error status; nothing was written."""

    def __init__(
        self,
        status: int,
        error: str,
        *,
        headers: dict[str, str] | None = None,
        leaves_body_unread: bool = False,
        **fields: Any,
    ) -> None:
        super().__init__(f"{status} {error}")
        self.status = status
        self.error = error
        """A stable code or a sentence, the answer's ``error``."""
        self.fields = fields
        """What else the answer says."""
        self.headers = headers or {}
        self.leaves_body_unread = leaves_body_unread
        """Whether the connection must be closed, since the rest of the body is still on its way."""

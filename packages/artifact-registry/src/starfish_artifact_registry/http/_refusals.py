"""What the HTTP layer refuses by itself, before the registry is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

__all__ = ("RequestRefusedError",)


class RequestRefusedError(HTTPException):
    """A request that is answered with a code of the error table and goes no further.

    It is an `HTTPException` so that FastAPI lets it through where it reads a body.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code = code
        """Stable; what a program looks at."""
        self.message = message
        """For people; may change."""
        self.facts = facts
        """What else the client may want to know."""

"""Which content types a collection takes."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Scope

from starfish_http.request_body import header
from starfish_server.requests._refusals import RequestRefusedError

__all__ = ("checked_media_type",)

_JSON = "application/json"


def checked_media_type(scope: Scope, allowed: Sequence[str]) -> str:
    """The content type of a request, without its parameters.

    Raises:
        RequestRefusedError: 415 when it is missing or not allowed.
    """
    raw = header(scope, b"content-type") or b""
    media_type = raw.decode("latin-1").partition(";")[0].strip().lower()
    if any(_covers(pattern, media_type) for pattern in allowed):
        return media_type
    if _JSON in allowed:
        raise RequestRefusedError(
            415, "Content-Type must be application/json", leaves_body_unread=True
        )
    raise RequestRefusedError(
        415, "Content-Type is not allowed here", leaves_body_unread=True, allowed=list(allowed)
    )


def _covers(pattern: str, media_type: str) -> bool:
    main, _, sub = media_type.partition("/")
    if not main or not sub or "/" in sub or "*" in media_type:
        return False
    return pattern in {media_type, f"{main}/*", "*/*"}

"""Who looks: a token that a person typed once, kept in a cookie of this browser.

A page cannot add an ``Authorization`` header to a link. The cookie carries the token, is hidden
from scripts, goes to this console only, is never sent along by another site's pages, and ends with
the browser's session.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

__all__ = ("COOKIE", "credential_of", "is_from_here", "sign_in", "sign_out")

COOKIE: Final = "starfish-console"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}")
"""Characters of a bearer token (RFC 6750, section 2.1)."""


def credential_of(request: Request) -> str | None:
    """The token of the person who looks; ``None`` for nobody in particular."""
    given = request.headers.get("authorization", "")
    if given[:7].lower() == "bearer ":
        return given[7:].strip() or None
    kept = request.cookies.get(COOKIE, "")
    return kept if _TOKEN.fullmatch(kept) else None


def sign_in(request: Request, response: Response, token: str) -> bool:
    """Keep a token in the browser; ``False`` when the text cannot be a token."""
    if _TOKEN.fullmatch(token) is None:
        return False
    response.set_cookie(
        COOKIE,
        token,
        path=request.scope.get("root_path", "") + "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return True


def sign_out(request: Request, response: Response) -> None:
    """Forget the token."""
    response.delete_cookie(COOKIE, path=request.scope.get("root_path", "") + "/")


def is_from_here(request: Request) -> bool:
    """Whether a form was sent by a page of this service, not by another site's."""
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}
    return urlsplit(origin).netloc == request.headers.get("host", "")

"""Errors of an HTTP edge, and the one shape in which a refusal is sent.

* StarfishError
  - HttpError
    - RequestRefusedError       status, code, detail, facts, headers
      - AuthError               a caller is not let in
    - ClientDisconnectedError   the client left, nothing can be answered
    - TokenFileError            path

A refusal is JSON with the members ``status`` and ``detail`` of RFC 9457, the stable ``error`` that
programs look at, and facts beside them::

    {"error": "body_too_large", "detail": "the body has more than 1024 bytes", "status": 413, "maxBytes": 1024}

``type`` and ``title`` are left out: the code says which problem it is, the sentence what to do.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from starfish_protocol.errors import StarfishError

__all__ = (
    "PROBLEM_MEDIA_TYPE",
    "AuthError",
    "ClientDisconnectedError",
    "HttpError",
    "RequestRefusedError",
    "TokenFileError",
    "code_of_status",
    "problem",
    "problem_handlers",
    "refusal_of",
)

_LOG = logging.getLogger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"
"""Content type of a refusal (RFC 9457, section 3)."""

_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    409: "conflict",
    412: "precondition_failed",
    413: "body_too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "invalid_request",
    429: "rate_limited",
    431: "head_too_large",
    499: "client_disconnected",
    500: "internal_error",
    501: "not_implemented",
    503: "unavailable",
    505: "http_version_not_supported",
    507: "storage_full",
}
_DETAILS = {
    404: "there is nothing at this path",
    405: "the path does not take this method; the header Allow lists those that it takes",
    500: "the server failed; its log says why",
}


def code_of_status(status: int) -> str:
    """The stable code of a refusal that has no code of its own.

    Examples:
        >>> code_of_status(404), code_of_status(418)
        ('not_found', 'http_418')
    """
    return _CODES.get(status, f"http_{status}")


def problem(status: int, code: str, detail: str, /, **facts: Any) -> bytes:
    """The body of a refusal, JSON in ASCII, so that no text can break the answer about it.

    Args:
        status: the answer's status.
        code: stable, lower case words with ``_``.
        detail: a sentence for people.
        facts: what else a program may want to know; JSON values.

    Examples:
        >>> problem(404, "not_found", "there is no note 7")
        b'{"error":"not_found","detail":"there is no note 7","status":404}'
    """
    body = {"error": code, "detail": detail, "status": status, **facts}
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")


class HttpError(StarfishError):
    """Base of every error that ``starfish_http`` raises on purpose."""


class RequestRefusedError(HttpError, HTTPException):
    """A request is answered with an error status; nothing was written.

    It is an `HTTPException`, so that FastAPI and Starlette let it through wherever it is raised.

    Args:
        status: 400 to 599.
        code: stable; the member ``error`` of the answer.
        detail: a sentence for people; it reaches the client.
        headers: of the answer.
        leaves_body_unread: whether the connection must end after the answer, since the rest of the
            body is still on its way.
        facts: further members of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        leaves_body_unread: bool = False,
        **facts: Any,
    ) -> None:
        merged = dict(headers or {})
        if leaves_body_unread:
            merged["connection"] = "close"
        HTTPException.__init__(self, status, detail, merged)
        self.code = code
        """Stable; the member ``error`` of the answer."""
        self.facts = facts
        """Further members of the answer."""
        self.leaves_body_unread = leaves_body_unread
        """Whether the connection must end after the answer."""

    @property
    def status(self) -> int:
        """The answer's status."""
        return self.status_code

    def __str__(self) -> str:
        return f"{self.status_code} {self.code}: {self.detail}"

    def body(self) -> bytes:
        """The answer's body."""
        return problem(self.status_code, self.code, self.detail, **self.facts)


class AuthError(RequestRefusedError):
    """A caller is not let in; the message reaches the client and holds no secret.

    Args:
        detail: a sentence.
        status: 401 when the credentials are missing or not valid, 403 when they do not suffice,
            413 when they are too large.
    """

    def __init__(self, detail: str = "unauthorized", *, status: int = 401) -> None:
        headers = {"www-authenticate": "Bearer"} if status == 401 else None
        super().__init__(status, code_of_status(status), detail, headers=headers)


class ClientDisconnectedError(HttpError):
    """The client left in the middle of a request: nothing can be answered."""


class TokenFileError(HttpError, ValueError):
    """A file of tokens cannot be read or written, or a value that was to go into it is refused."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"token file {path}: {reason}")
        self.path = path
        """Which file."""


@runtime_checkable
class _ListsProblems(Protocol):
    """A validation error of FastAPI or pydantic, known by what it can tell."""

    def errors(self) -> list[Any]: ...


def refusal_of(error: Exception) -> RequestRefusedError:
    """Which refusal an error becomes: its own, that of its status, else a 500 that is logged.

    Takes `RequestRefusedError`, Starlette's ``HTTPException``, FastAPI's ``RequestValidationError``
    and anything else.
    """
    if isinstance(error, RequestRefusedError):
        return error
    if isinstance(error, HTTPException):
        status = error.status_code
        # Starlette's own details are the phrase of the status, which says nothing more.
        own = cast("object", error.detail)
        detail = _DETAILS.get(status) or (own if isinstance(own, str) else json.dumps(own))
        return RequestRefusedError(status, code_of_status(status), detail, headers=error.headers)
    if isinstance(error, (ClientDisconnectedError, ClientDisconnect)):
        return RequestRefusedError(499, code_of_status(499), "the client has gone")
    if isinstance(error, _ListsProblems):
        return _invalid(error)
    _LOG.error("a request failed", exc_info=error)
    return RequestRefusedError(500, code_of_status(500), _DETAILS[500])


def _invalid(error: _ListsProblems) -> RequestRefusedError:
    problems = [
        {"location": [str(step) for step in each["loc"]], "message": str(each["msg"])}
        for each in error.errors()[:20]
    ]
    first = problems[0] if problems else {"location": ["request"], "message": "not valid"}
    detail = f"{'.'.join(first['location'])}: {first['message']}"
    return RequestRefusedError(422, code_of_status(422), detail, problems=problems)


async def _answer(_request: Request, error: Exception) -> Response:
    refusal = refusal_of(error)
    return Response(refusal.body(), refusal.status, refusal.headers, PROBLEM_MEDIA_TYPE)


def problem_handlers(
    *validation_errors: type[Exception],
) -> dict[Any, Callable[[Request, Exception], Awaitable[Response]]]:
    """What Starlette and FastAPI take as ``exception_handlers``: unknown paths and methods included.

    Args:
        validation_errors: FastAPI's ``RequestValidationError``, so that it is answered alike.

    Examples:
        >>> from starlette.applications import Starlette
        >>> app = Starlette(exception_handlers=problem_handlers())
    """
    handled = (
        HTTPException,
        ClientDisconnect,
        ClientDisconnectedError,
        *validation_errors,
        Exception,
    )
    return dict.fromkeys(handled, _answer)

"""Every failure as JSON: ``{"error": code, "message": …}`` and facts beside them.

The codes of the registry's errors are in `error_codes`; what FastAPI and this package's own HTTP
layer refuse is answered in the same shape.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from typing_extensions import override

from starfish_artifact_registry.error_codes import error_code, error_facts
from starfish_artifact_registry.errors import RegistryError
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.http._lingering_response import LingeringResponse
from starfish_artifact_registry.http._refusals import RequestRefusedError
from starfish_artifact_registry.http._request_body import BoundedBody

__all__ = ("ErrorBody", "answer_to", "error_responses", "route_class")

_LOG = logging.getLogger(__name__)
_CLOSED_REQUEST = 499
"""Nobody reads this answer: the client has gone. nginx's number for it."""
_STATUS_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
_DESCRIPTIONS = {
    400: "The request is refused; `error` says why.",
    401: "No credentials, or not valid ones.",
    403: "Not allowed to this caller.",
    404: "There is nothing of this id.",
    406: "None of the media types that the client accepts.",
    408: "The body did not arrive in time.",
    409: "The state of the package does not allow it.",
    413: "The body is too large.",
    416: "The range is outside of the content.",
    422: "The path, the query or the body has not the documented form.",
    500: "Stored content is damaged; the log of the service names it.",
    503: "The database or the storage does not answer.",
    507: "The storage is full; nothing was stored.",
}


class ErrorBody(BaseModel):
    """What a refusal says."""

    model_config = ConfigDict(extra="allow")

    error: str = Field(description="A stable code.")
    message: str = Field(description="A sentence for people.")


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of what a route may refuse, beside what every route may."""
    return {
        status: {"model": ErrorBody, "description": _DESCRIPTIONS[status]}
        for status in sorted({401, 403, 422, 500, 503, *statuses})
    }


def answer_to(error: Exception) -> JSONResponse:
    """The answer for an error that a route may end with.

    Raises:
        Exception: the error itself, when it is none of those: it is a defect.
    """
    if isinstance(error, RegistryError):
        return _registry_error(error)
    if isinstance(error, RequestRefusedError):
        return _answer(
            error.status_code, error.code, error.message, error.facts, dict(error.headers or {})
        )
    if isinstance(error, RequestValidationError):
        return _invalid_request(error)
    if isinstance(error, HTTPException):
        code = _STATUS_CODES.get(error.status_code, "invalid_request")
        return _answer(error.status_code, code, str(error.detail), {}, dict(error.headers or {}))
    if isinstance(error, ClientDisconnect):
        return _answer(_CLOSED_REQUEST, "client_disconnected", "the client has gone", {})
    raise error


def route_class(limits: HttpLimits, *, max_body_bytes: int) -> type[APIRoute]:
    """A route whose requests are bounded and whose failures all have the same shape."""

    class RegistryRoute(APIRoute):
        @override
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_bounded(request: Request) -> Response:
                body = BoundedBody(request.scope, request.receive, limits, max_bytes=max_body_bytes)
                try:
                    answer = await handle(Request(request.scope, body))
                except Exception as error:  # noqa: BLE001 - answer_to raises defects again
                    answer = answer_to(error)
                return LingeringResponse(answer, limits.linger_s) if body.is_unread else answer

            return handle_bounded

    return RegistryRoute


def _registry_error(error: RegistryError) -> JSONResponse:
    row = error_code(error)
    if row.status < 500:
        return _answer(row.status, row.code, str(error), error_facts(error))
    _LOG.error("%s: %s", row.code, error)
    headers = {"retry-after": "5"} if row.status == 503 else None
    return _answer(row.status, row.code, _DESCRIPTIONS[row.status], {}, headers)


def _invalid_request(error: RequestValidationError) -> JSONResponse:
    problems = [
        {"location": [str(step) for step in each["loc"]], "message": each["msg"]}
        for each in error.errors()[:20]
    ]
    first = problems[0]
    message = f"{'.'.join(first['location'])}: {first['message']}"
    return _answer(422, "invalid_request", message, {"problems": problems})


def _answer(
    status: int,
    code: str,
    message: str,
    facts: dict[str, Any],
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    # ASCII, so that a name that is not Unicode text cannot break the answer about it.
    return _AsciiJson({**facts, "error": code, "message": message}, status, headers)


class _AsciiJson(JSONResponse):
    @override
    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")

"""Every failure as JSON: ``{"error": code, "detail": …, "status": …}`` and facts beside them.

The codes of the registry's errors are in `error_codes`; all other refusals and their shape are
those of `starfish_http.errors`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi.exceptions import RequestValidationError
from fastapi.params import Param, Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from typing_extensions import override

from starfish_artifact_registry.error_codes import error_code, error_facts
from starfish_artifact_registry.errors import RegistryError
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_http.callers.capabilities import SIGNED_BODY, SignedBody, is_capability_request
from starfish_http.errors import (
    PROBLEM_MEDIA_TYPE,
    ClientDisconnectedError,
    RequestRefusedError,
    refusal_of,
)
from starfish_http.linger import Lingering
from starfish_http.request_body import BodyPace, RequestBody

__all__ = ("ErrorBody", "answer_to", "error_responses", "route_class")

_LOG = logging.getLogger(__name__)
_MOST_HELD_BYTES = 8 * 1024 * 1024
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
    detail: str = Field(description="A sentence for people.")
    status: int = Field(description="The status of the answer.")


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of what a route may refuse, beside what every route may."""
    return {
        status: {
            "model": ErrorBody,
            "description": _DESCRIPTIONS[status],
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
        }
        for status in sorted({401, 403, 422, 500, 503, *statuses})
    }


def answer_to(error: Exception) -> Response:
    """The answer for an error that a route may end with.

    Raises:
        Exception: the error itself, when it is none of those: it is a defect.
    """
    if isinstance(error, RegistryError):
        refusal = _of_registry(error)
    elif isinstance(
        error,
        HTTPException | RequestValidationError | ClientDisconnect | ClientDisconnectedError,
    ):
        refusal = refusal_of(error)
    else:
        raise error
    return Response(refusal.body(), refusal.status, refusal.headers, PROBLEM_MEDIA_TYPE)


def route_class(
    limits: HttpLimits, *, max_body_bytes: int, any_query: bool = False
) -> type[APIRoute]:
    """A route whose requests are bounded and whose failures all have the same shape.

    Args:
        limits: the caps.
        max_body_bytes: of the bodies of this route.
        any_query: whether parameters that the route does not know are left alone.
    """
    pace = BodyPace(limits.body_interval_s, limits.min_body_bytes)
    # Files pass through: a signed request covers their address and digest, and not their bytes.
    is_upload = max_body_bytes > _MOST_HELD_BYTES

    class RegistryRoute(APIRoute):
        @override
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            known = _query_parameters(self.endpoint)

            async def handle_bounded(request: Request) -> Response:
                body = RequestBody(
                    request.scope, request.receive, max_bytes=max_body_bytes, pace=pace
                )
                request.scope[SIGNED_BODY] = (
                    SignedBody(_nothing, is_opaque=True) if is_upload else SignedBody(body.sent)
                )
                try:
                    if not any_query:
                        _check_query(request, known)
                    if not is_upload and is_capability_request(request.scope):
                        await body.sent()  # before FastAPI reads it in pieces
                    answer = await handle(Request(request.scope, body))
                except Exception as error:  # noqa: BLE001 - answer_to raises defects again
                    answer = answer_to(error)
                return _Heard(answer, limits.linger_s) if body.is_unread else answer

            return handle_bounded

    return RegistryRoute


async def _nothing() -> bytes:
    return b""


class _Heard(Response):
    """An answer before the end of the body, as FastAPI takes one from a route."""

    def __init__(self, answer: Response, linger_s: float) -> None:
        super().__init__(status_code=answer.status_code)
        self.raw_headers = answer.raw_headers
        self._lingering = Lingering(answer, linger_s)

    @override
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._lingering(scope, receive, send)


@cache
def _query_parameters(endpoint: Callable[..., Any]) -> frozenset[str]:
    hints = get_type_hints(endpoint, include_extras=True)
    found: set[str] = set()
    for name, parameter in inspect.signature(endpoint).parameters.items():
        hint = hints.get(name)
        members = get_args(hint) if get_origin(hint) is Annotated else ()
        # As FastAPI has it, a parameter with a default and without a mark is one of the query, too.
        is_marked = any(isinstance(member, Param) for member in members)
        is_query = any(isinstance(member, Query) for member in members)
        if is_query or (parameter.default is not parameter.empty and not is_marked):
            found.add(name)
    return frozenset(found)


def _check_query(request: Request, known: frozenset[str]) -> None:
    """Refuse a misspelt parameter, which would otherwise ask for everything."""
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        allowed = f"it must be one of {', '.join(sorted(known))}" if known else "there is none here"
        raise RequestRefusedError(
            422,
            "invalid_request",
            f"the parameter {unknown[0]!r:.80} is not known; {allowed}",
            problems=[
                {"location": ["query", name[:80]], "message": "unknown parameter"}
                for name in unknown[:20]
            ],
        )


def _of_registry(error: RegistryError) -> RequestRefusedError:
    row = error_code(error)
    if row.status < 500:
        # The member `status` is the answer's.
        facts = {
            "package_status" if name == "status" else name: fact
            for name, fact in error_facts(error).items()
        }
        return RequestRefusedError(row.status, row.code, str(error), **facts)
    _LOG.error("%s: %s", row.code, error)
    headers = {"retry-after": "5"} if row.status == 503 else None
    return RequestRefusedError(row.status, row.code, _DESCRIPTIONS[row.status], headers=headers)

"""Answers in the type that was asked for, and one table of which answer an error becomes.

Every subclass of `MPackError` finds a row, its own or that of a class above it; a test walks them.

Rule: an answer never quotes objects of another repository, and a status above 499 is always 503.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from starfish_http.errors import RequestRefusedError
from starfish_http.linger import Lingering
from starfish_mpack_wire._messages import MEDIA_TYPE, encode_message
from starfish_mpack_wire.errors import (
    DamagedHistoryError,
    IncompleteHistoryError,
    InvalidMessageError,
    MPackError,
    MPackFormatError,
    MPackIntegrityError,
    MPackLimitError,
    NonFastForwardError,
    ObjectNotFoundError,
    RefConflictError,
)
from starfish_mpack_wire.server.errors import (
    BlobUnavailableError,
    ForbiddenError,
    PackBuildingError,
    PackNotUploadedError,
    QuotaExceededError,
    RepoNotFoundError,
    RequestTooLargeError,
    StorageUnavailableError,
    UnknownWantError,
    UnpackBusyError,
)

__all__ = ("RESPONSES", "answer", "error_answer", "refusal_response")

_LOG = logging.getLogger(__name__)
_JSON = "application/json"
_RETRY_SOON_S = 2

RESPONSES: dict[type[MPackError], tuple[int, str]] = {
    MPackError: (503, "unavailable"),
    InvalidMessageError: (422, "invalid_request"),
    MPackFormatError: (422, "pack_damaged"),
    MPackIntegrityError: (422, "pack_damaged"),
    MPackLimitError: (422, "pack_damaged"),
    IncompleteHistoryError: (422, "incomplete_history"),
    PackNotUploadedError: (422, "pack_not_uploaded"),
    RepoNotFoundError: (404, "not_found"),
    UnknownWantError: (404, "unknown_want"),
    ObjectNotFoundError: (404, "unknown_want"),
    ForbiddenError: (403, "forbidden"),
    RefConflictError: (409, "ref_conflict"),
    NonFastForwardError: (409, "non_fast_forward"),
    RequestTooLargeError: (413, "pack_too_large"),
    QuotaExceededError: (413, "quota_exceeded"),
    UnpackBusyError: (503, "unpack_busy"),
    BlobUnavailableError: (503, "blob_unavailable"),
    PackBuildingError: (503, "pack_building"),
    DamagedHistoryError: (503, "history_damaged"),
    StorageUnavailableError: (503, "storage_unavailable"),
}
"""Status and code."""

_FIELDS: dict[type[MPackError], tuple[str, ...]] = {
    RefConflictError: ("branch", "expected", "actual"),
    NonFastForwardError: ("branch", "head", "current"),
    IncompleteHistoryError: ("kind", "missing", "needed_by"),
}


def answer(
    request: Request,
    body: Mapping[str, Any],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A map, as JSON or msgpack."""
    if _wants_json(request):
        content, media_type = json.dumps(body, separators=(",", ":")).encode(), _JSON
    else:
        content, media_type = encode_message(body), MEDIA_TYPE
    return Response(content, status, {"Vary": "Accept", **(headers or {})}, media_type)


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "").lower()
    if MEDIA_TYPE in accepted:
        return False
    if _JSON in accepted or request.method in ("GET", "HEAD"):
        return True
    return request.headers.get("content-type", "").lower().startswith(_JSON)


def error_answer(request: Request, error: MPackError) -> Response:
    """The answer that an error becomes."""
    status, code = next(RESPONSES[cls] for cls in type(error).__mro__ if cls in RESPONSES)
    body: dict[str, Any] = {"error": code, "detail": str(error), "status": status}
    headers: dict[str, str] = {}
    for cls, names in _FIELDS.items():
        if isinstance(error, cls):
            body |= {name: getattr(error, name) for name in names}
    if isinstance(error, UnknownWantError) and error.kind == "blob":
        body["error"] = "unknown_blob"
    if status == 503:
        _LOG.error("a request failed: %s", error)
        headers["Retry-After"] = str(_RETRY_SOON_S)
    return answer(request, body, status, headers)


def refusal_response(request: Request, refusal: RequestRefusedError) -> Response:
    """Return the answer of a refusal by the HTTP edge, in the type that was asked for.

    Where a part of the body is still on its way, the answer lingers, so that a client that is sending sees it.
    """
    body = {
        "error": refusal.code,
        "detail": refusal.detail,
        "status": refusal.status,
        **refusal.facts,
    }
    response = answer(request, body, refusal.status, refusal.headers)
    return _Lingering(response) if refusal.leaves_body_unread else response


class _Lingering(Response):
    """A response that ends once the client has seen it and stops sending."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.body, response.status_code, dict(response.headers))
        self._lingering = Lingering(response)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._lingering(scope, receive, send)

"""One table: which HTTP answer an error becomes.

Every subclass of `ServerError` has its row, so that a new error cannot become a 500 unnoticed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from starfish_http.answers import Answer
from starfish_http.errors import AuthError, HttpError, TokenFileError
from starfish_http.errors import RequestRefusedError as HttpRefusedError
from starfish_protocol.errors import StarfishError
from starfish_server.documents._errors import (
    AppendLimitExceededError,
    AppendRefusedError,
    ContentionError,
    DamagedDocumentError,
    NonMonotonicTimestampError,
    PullBoundError,
    TimestampTooFarAheadError,
)
from starfish_server.errors import (
    ConfigError,
    InvalidKeyError,
    ServerError,
    StoreError,
    StoreUnavailableError,
)
from starfish_server.events import FeedRefusedError
from starfish_server.maintenance._errors import (
    DamagedSourceError,
    MaintenanceError,
    MissingError,
    TakenError,
)
from starfish_server.requests._answers import error_answer
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.storage.errors import (
    InvalidPositionError,
    NotSupportedError,
    OutcomeUnknownError,
    PositionLostError,
    PreconditionFailedError,
    ValueTooLargeError,
)

__all__ = ("RESPONSES", "answer_to")

_LOG = logging.getLogger(__name__)
_WIRE_TEXTS = {
    "body_too_large": "Payload too large",
    "body_too_slow": "Request body too slow",
    "too_many_streams": "Too many event streams",
}
"""Texts that the public protocol fixes, for refusals of starfish_http."""
_RETRY_SOON = [(b"retry-after", b"1")]
_CLOSE = (b"connection", b"close")
_BEARER = (b"www-authenticate", b"Bearer")


def _refused(error: RequestRefusedError) -> Answer:
    headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    if error.status == 401:
        headers.append(_BEARER)
    if error.leaves_body_unread:
        headers.append(_CLOSE)
    return error_answer(error.status, error.error, headers, **error.fields)


def _unauthenticated(error: AuthError) -> Answer:
    default = {401: "Unauthorized", 403: "Forbidden", 413: "Payload too large"}
    text = error.detail
    if not text or text.lower() in {"unauthorized", "forbidden"}:
        text = default[error.status]
    return error_answer(error.status, text, [_BEARER] if error.status == 401 else None)


def _refused_at_the_edge(error: HttpRefusedError) -> Answer:
    headers = [(k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items()]
    return error_answer(error.status, _WIRE_TEXTS.get(error.code, error.code), headers)


def _unavailable(error: ServerError) -> Answer:
    _LOG.error("store unavailable: %s", error)
    return error_answer(503, "Storage unavailable", _RETRY_SOON)


def _damaged(error: DamagedDocumentError) -> Answer:
    _LOG.error("%s", error)
    return error_answer(503, "document_damaged")


def _misconfigured(error: ServerError) -> Answer:
    _LOG.error("a request met an error of the configuration: %s", error)
    return error_answer(503, "Server misconfigured")


def _server_error(error: StarfishError) -> Answer:
    _LOG.error("a request met an unexpected error: %s", error)
    return error_answer(503, "Service unavailable")


RESPONSES: dict[type[StarfishError], Callable[[Any], Answer]] = {
    ServerError: _server_error,
    ConfigError: _misconfigured,
    StoreError: _unavailable,
    StoreUnavailableError: _unavailable,
    InvalidKeyError: lambda _error: error_answer(400, "Invalid path parameter"),
    PreconditionFailedError: lambda _error: error_answer(412, "Precondition failed"),
    OutcomeUnknownError: _unavailable,
    ValueTooLargeError: lambda _error: error_answer(413, "Payload too large"),
    InvalidPositionError: lambda _error: error_answer(400, "Invalid position"),
    PositionLostError: lambda _error: error_answer(409, "unknown_position"),
    NotSupportedError: _server_error,
    AuthError: _unauthenticated,
    HttpRefusedError: _refused_at_the_edge,
    TokenFileError: _server_error,
    RequestRefusedError: _refused,
    DamagedDocumentError: _damaged,
    ContentionError: lambda _error: error_answer(503, "Too many concurrent writes", _RETRY_SOON),
    AppendRefusedError: lambda error: error_answer(400, str(error)),
    NonMonotonicTimestampError: lambda error: error_answer(
        409, "non_monotonic_timestamp", latest=error.latest
    ),
    TimestampTooFarAheadError: lambda _error: error_answer(400, "ts is too far in the future"),
    AppendLimitExceededError: lambda error: error_answer(
        409, "append_limit_exceeded", limit=error.limit
    ),
    PullBoundError: lambda error: error_answer(400, error.code),
    # Of the client and of the commands; a request meets none of them.
    FeedRefusedError: _server_error,
    MaintenanceError: _server_error,
    MissingError: _server_error,
    TakenError: _server_error,
    DamagedSourceError: _server_error,
}


def answer_to(error: ServerError | HttpError) -> Answer:
    """The answer for an error: that of its class, or of the nearest one above it."""
    for cls in type(error).__mro__:
        found = RESPONSES.get(cls)
        if found is not None:
            return found(error)
    return _server_error(error)  # pragma: no cover - ServerError has a row

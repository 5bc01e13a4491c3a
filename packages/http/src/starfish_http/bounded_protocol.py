"""HTTP connections that a silent, slow, greedy or lenient client cannot hold for long.

uvicorn's own connection, bounded: the time and the bytes of a request's head, the rate of its body,
the time a client may leave an answer unread, and how many connections there are, in total and of one
address. Requests that a proxy may read otherwise are refused (RFC 9112): a missing, second or
malformed ``Host``, versions other than 1.0 and 1.1, a transfer coding other than ``chunked``. Every
refusal is JSON in the shape of `starfish_http.errors`. Requests that arrive in one piece, which is
nearly all, never start a timer.

Any application can be served so: ``uvicorn.run(app, http=BoundedHttpProtocol)``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Literal, NamedTuple, cast
from weakref import WeakKeyDictionary

from typing_extensions import override

from starfish_http._connection_table import ConnectionTable
from starfish_http.addresses import client_address
from starfish_http.errors import PROBLEM_MEDIA_TYPE, problem

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.server import ServerState
except ModuleNotFoundError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        "starfish_http.bounded_protocol needs the extra serve: "
        'pip install --find-links dist "starfish-http[serve]"'
    ) from error

__all__ = ("BoundedHttpProtocol", "ConnectionLimits")

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_MOST_TURNED_AWAY = 100
"""Connections beyond the bound that are told so at once; more than these are only closed."""
_LINE_OVERHEAD = 4  # colon, space, CR and LF of a header


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one client, and all of them, may take of a server; of each process where there are several."""

    head_timeout_s: float = 10.0
    """From the first byte of a request, or the opening of the connection, to the end of the head."""
    max_head_bytes: int = 64 * 1024
    """Request line and headers."""
    body_interval_s: float = 10.0
    """How often the progress of a body is looked at."""
    min_body_bytes: int = 10 * 1024
    """The bytes that must have arrived of a body from one look to the next, unless it is complete."""
    unread_timeout_s: float = 30.0
    """How long an answer may wait in full buffers."""
    max_connections: int = 1000
    """Connections at once."""
    max_connections_per_address: int | None = None
    """Connections of one address at once; ``None`` for half of all. Behind a proxy, through which
    everybody comes from one address: `max_connections`."""
    linger_s: float = 2.0
    """How long a client that is refused may go on sending, so that it reads the refusal."""

    def of_one_address(self) -> int:
        """Connections of one address at once, as a number."""
        if self.max_connections_per_address is not None:
            return self.max_connections_per_address
        return max(1, self.max_connections // 2)


class _Refusal(NamedTuple):
    status: HTTPStatus
    code: str
    detail: str


class _RefusedHeadError(Exception):
    """Makes the parser stop; the refusal itself is kept beside."""


_MALFORMED = _Refusal(
    HTTPStatus.BAD_REQUEST, "malformed_request", "the request is not HTTP/1.1 as RFC 9112 has it"
)
_FULL = _Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_connections",
    "the server has as many connections as it takes, in total or from this address",
)
_UNKNOWN_CODING = _Refusal(
    HTTPStatus.NOT_IMPLEMENTED,
    "unsupported_transfer_coding",
    "the transfer coding must be chunked, and nothing else",
)
_TABLES: WeakKeyDictionary[ServerState, ConnectionTable] = WeakKeyDictionary()


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's connection, with bounds; a subclass may set other `limits`."""

    limits: ClassVar[ConnectionLimits] = ConnectionLimits()
    """Bounds of every connection of this class."""

    _phase: Literal["head", "body", "none"] = "head"
    _watching: Literal["head", "body"] | None = None
    _watch: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _lingering: asyncio.TimerHandle | None = None
    _has_cycle: bool = False
    _head_bytes: int = 0
    _body_bytes: int = 0
    _refused: bool = False
    _refusal: _Refusal | None = None
    """Of a request that the parser was stopped in; sent when the requests before it are answered."""
    _address: str = "unknown"
    _was_turned_away: bool = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._address = client_address(None if self.client is None else self.client[0])
        table = self._table()
        if table.admit(self, self._address):
            self._start_watch("head", self.limits.head_timeout_s, self._head_is_late)
        elif table.turned_away < _MOST_TURNED_AWAY:
            table.turned_away += 1
            self._was_turned_away = True
            self._refuse(_FULL)
        else:
            self._refused = True
            self.transport.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watch()
        for timer in (self._unread, self._lingering):
            if timer is not None:
                timer.cancel()
        table = self._table()
        table.release(self, self._address)
        if self._was_turned_away:
            table.turned_away -= 1
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_over():
            return  # thrown away until the client has read the refusal
        if self._phase == "body":
            self._body_bytes += len(data)
        else:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._phase == "none" and not self.is_idle():
            # A whole request arrived: the one case that must be quick.
            if self._watch is not None:
                self._stop_watch()
        elif self.transport.is_closing() or self._is_over():
            self._stop_watch()
        elif self._phase == "body":
            self._start_watch("body", self.limits.body_interval_s, self._look_at_body)
        # Idle after data: bytes that begin no request, such as empty lines.
        elif self._head_bytes > self.limits.max_head_bytes:
            self._refuse(self._head_too_large())
        else:
            self._start_watch("head", self.limits.head_timeout_s, self._head_is_late)

    @override
    def eof_received(self) -> None:
        if self._refused:
            self.transport.close()
        super().eof_received()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = "head"

    @override
    def on_headers_complete(self) -> None:
        self._refusal = self._problem_of_head()
        if self._refusal is not None:
            raise _RefusedHeadError
        super().on_headers_complete()
        self._phase = "body"
        self._has_cycle = True
        self._head_bytes = 0
        self._body_bytes = 0

    @override
    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase = "none"

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refusal is not None and self.is_idle() and not self.transport.is_closing():
            self._refuse(self._refusal)

    @override
    def send_400_response(self, msg: str) -> None:
        refusal = self._refusal or _MALFORMED
        if self._phase == "body" or self.is_idle():
            self._refuse(refusal)
        else:
            # The requests before it are still being answered, which must not be cut off.
            self._refusal = refusal

    @override
    def shutdown(self) -> None:
        if self._refused:
            self.transport.abort()
        else:
            super().shutdown()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.limits.unread_timeout_s, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def has_asked(self) -> bool:
        """Whether the head of a request ever arrived whole."""
        return self._has_cycle

    def is_idle(self) -> bool:
        """Whether nothing is being answered."""
        return not self._has_cycle or self.cycle.response_complete

    def make_room(self) -> None:
        """Close at once, for another connection."""
        self._stop_watch()
        self.transport.abort()

    def _is_over(self) -> bool:
        """Whether a refusal was sent, or waits for the answers before it."""
        return self._refused or self._refusal is not None

    def _table(self) -> ConnectionTable:
        table = _TABLES.get(self.server_state)
        if table is None:
            table = ConnectionTable(self.limits.max_connections, self.limits.of_one_address())
            _TABLES[self.server_state] = table
        return table

    def _problem_of_head(self) -> _Refusal | None:
        version = cast("Any", self.parser).get_http_version()
        # The bytes received include those of a body, so only above the limit they are counted apart.
        if self._head_bytes > self.limits.max_head_bytes and self._head_size_is_over():
            return self._head_too_large()
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
                if _HOST.fullmatch(value) is None:
                    return _bad_request("malformed_host", "the header Host is malformed")
            elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                return _UNKNOWN_CODING
        if hosts == 1 and version == "1.1":
            return None
        return _problem_of_version(version, hosts)

    def _head_size_is_over(self) -> bool:
        size = len(self.url) + sum(len(n) + len(v) + _LINE_OVERHEAD for n, v in self.headers)
        return size > self.limits.max_head_bytes

    def _head_too_large(self) -> _Refusal:
        limit = self.limits.max_head_bytes
        if len(getattr(self, "url", b"")) > limit:
            return _Refusal(
                HTTPStatus.REQUEST_URI_TOO_LONG,
                "uri_too_long",
                f"the URI has more than {limit} bytes",
            )
        return _Refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "head_too_large",
            f"request line and headers have more than {limit} bytes",
        )

    def _start_watch(
        self, what: Literal["head", "body"], seconds: float, then: Callable[[], None]
    ) -> None:
        if self._watching != what:
            self._stop_watch()
            self._watching = what
            self._watch = self.loop.call_later(seconds, then)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._watching = None

    def _head_is_late(self) -> None:
        self._watch = self._watching = None
        seconds = self.limits.head_timeout_s
        if self.is_idle():
            self._refuse(_late(f"the head of a request did not arrive within {seconds:g} s"))
        else:
            # The request before it is still being answered, which must not be cut off.
            self._start_watch("head", seconds, self._head_is_late)

    def _look_at_body(self) -> None:
        self._watch = self._watching = None
        if self._phase != "body":
            return
        limits = self.limits
        # Nothing can arrive while reading is paused, and that is not the client's doing.
        if self._body_bytes >= limits.min_body_bytes or self.flow.read_paused:
            self._body_bytes = 0
            self._start_watch("body", limits.body_interval_s, self._look_at_body)
        else:
            self._refuse(
                _late(
                    f"fewer than {limits.min_body_bytes} bytes of the body arrived "
                    f"within {limits.body_interval_s:g} s"
                )
            )

    def _refuse(self, refusal: _Refusal) -> None:
        """Answer, and close once the client has read it or had the time to."""
        self._stop_watch()
        self._unset_keepalive_if_required()
        self._refused = True
        if self.transport.is_closing():
            return
        within_a_request = self._phase == "body" and self._has_cycle
        can_answer = not (within_a_request and self.cycle.response_started)
        if within_a_request:
            # The application learns of it as of a client that went away.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if can_answer:
            self.transport.write(_answer(refusal))
        if can_answer and self.transport.can_write_eof():
            self.flow.resume_reading()
            self.transport.write_eof()
            self._lingering = self.loop.call_later(self.limits.linger_s, self.transport.abort)
        else:
            self.transport.close()


def _bad_request(code: str, detail: str) -> _Refusal:
    return _Refusal(HTTPStatus.BAD_REQUEST, code, detail)


def _problem_of_version(version: str, hosts: int) -> _Refusal | None:
    if version in {"1.1", "1.0"}:
        if hosts == 1 or (hosts == 0 and version == "1.0"):
            return None
        return _bad_request(
            "malformed_host", f"a request has one header Host; this one has {hosts}"
        )
    return _Refusal(
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
        "http_version_not_supported",
        f"HTTP/{version} is refused; it must be HTTP/1.1 or HTTP/1.0",
    )


def _late(detail: str) -> _Refusal:
    return _Refusal(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", detail)


def _answer(refusal: _Refusal) -> bytes:
    status = refusal.status
    body = problem(status.value, refusal.code, refusal.detail)
    retry = "retry-after: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {PROBLEM_MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
    ).encode() + body

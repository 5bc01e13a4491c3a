"""What goes around every answer: CORS, request ids, fixed headers, and those who watch.

One wrapper in raw ASGI with lines that were made beforehand, since each layer of a framework's middleware
costs as much as a small answer. All of it is off unless asked for, but for three headers.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

__all__ = ("SECURITY_HEADERS", "AccessLog", "Cors", "Edge", "Observer", "with_edge")

_LOG = logging.getLogger(__name__)
_ORIGIN = re.compile(
    r"(?:[a-z][a-z0-9+.-]*)://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ANY = "*"
_Line = tuple[bytes, bytes]
_NOSNIFF = (b"x-content-type-options", b"nosniff")

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
"""For services whose answers are data: nothing is sniffed, framed or told to other sites."""


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages of other origins may use a service (the Fetch standard).

    Credentials travel in ``Authorization``, never in cookies, so ``Allow-Credentials`` is never sent.

    Raises:
        ValueError: an origin is not ``scheme://host`` or ``scheme://host:port``; the message names it.

    Examples:
        >>> Cors(["https://app.example"]).origins
        ('https://app.example',)
    """

    origins: Iterable[str]
    """Those that are let in, each written out; ``*`` alone for every one."""
    methods: Sequence[str] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    """What a page may send."""
    request_headers: Sequence[str] = (
        "Authorization", "Content-Type", "If-Match", "If-None-Match", "If-Range", "Range", "Last-Event-ID",
        "Idempotency-Key", "X-Request-ID", "X-Requested-With",
        "X-Starfish-Sig", "X-Starfish-Ts", "X-Starfish-Nonce", "X-Starfish-Pub",
    )  # fmt: skip
    """Headers that a page may send."""
    exposed_headers: Sequence[str] = (
        "ETag", "Retry-After", "Content-Range", "Accept-Ranges", "WWW-Authenticate", "Allow", "X-Request-ID",
    )  # fmt: skip
    """Headers that a page may read."""
    max_age_s: int = 600
    """How long a browser may keep the answer to its question."""

    def __post_init__(self) -> None:
        origins = tuple(origin.rstrip("/") if origin != _ANY else origin for origin in self.origins)
        object.__setattr__(self, "origins", origins)
        for origin in origins:
            if origin != _ANY and _ORIGIN.fullmatch(origin) is None:
                raise ValueError(
                    f"origin {origin!r} is refused; it must be scheme://host or scheme://host:port, or *"
                )
        if _ANY in origins and len(origins) > 1:
            raise ValueError(f"origins {', '.join(origins)} are refused; * must stand alone")


class Observer(Protocol):
    """Is told of every request: metrics, spans, a log."""

    def begin(self, scope: Scope) -> Any:
        """A request came; gives back whatever `end` wants to have."""
        ...

    def end(self, scope: Scope, begun: Any, status: int, seconds: float) -> None:
        """A request is over; ``status`` is 0 when nothing was answered, ``seconds`` counts to the last byte."""
        ...


class AccessLog(Observer):
    """One line a request: method, path, status, milliseconds, request id; never a query or a body."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("starfish_http.access")

    @override
    def begin(self, scope: Scope) -> None:
        """Nothing is logged yet."""

    @override
    def end(self, scope: Scope, begun: None, status: int, seconds: float) -> None:
        """Write the line."""
        raw = scope.get("raw_path") or scope["path"].encode("utf-8", "backslashreplace")
        path = raw.decode("latin-1").encode("ascii", "backslashreplace").decode()
        request_id = scope.get("state", {}).get("request_id", "-")
        self._logger.info(
            "%s %s %d %.1f ms %s", scope["method"], path, status, seconds * 1000, request_id
        )


class Edge:
    """An application with its surroundings; made by `with_edge`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        cors: Cors | None,
        request_ids: bool,
        headers: Sequence[tuple[bytes, bytes]],
        observers: Sequence[Observer],
    ) -> None:
        self.app = app
        """The application inside."""
        self._request_ids = request_ids
        self._observers = tuple(observers)
        self._id_prefix = secrets.token_hex(6)
        self._id_numbers = itertools.count(1)
        self._fixed = list(headers)
        self._by_origin: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self._preflight: list[tuple[bytes, bytes]] = []
        self._any_origin = False
        if cors is not None:
            self._prepare_cors(cors)
        self._reads_headers = request_ids or cors is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back with all that belongs around it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        lines = self._fixed
        if self._reads_headers:
            lines, is_preflight = self._lines_for(scope)
            if is_preflight:
                await send({"type": "http.response.start", "status": 204, "headers": lines})
                await send({"type": "http.response.body", "body": b""})
                return
        if self._observers:
            await self._observed(scope, receive, send, lines)
            return

        async def send_with_lines(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _joined(message["headers"], lines)
            await send(message)

        await self.app(scope, receive, send_with_lines)

    async def _observed(
        self, scope: Scope, receive: Receive, send: Send, lines: list[tuple[bytes, bytes]]
    ) -> None:
        status = 0

        async def send_with_lines(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _joined(message["headers"], lines)
            await send(message)

        began = time.perf_counter()
        begun = [observer.begin(scope) for observer in self._observers]
        try:
            await self.app(scope, receive, send_with_lines)
        finally:
            seconds = time.perf_counter() - began
            for observer, own in zip(reversed(self._observers), reversed(begun), strict=True):
                try:
                    observer.end(scope, own, status, seconds)
                except Exception:  # noqa: BLE001 - a watcher must not break the request
                    _LOG.exception("%s failed", type(observer).__name__)

    def _lines_for(self, scope: Scope) -> tuple[list[tuple[bytes, bytes]], bool]:
        origin = request_id = None
        asks = False
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value
            elif name == b"x-request-id":
                request_id = value
            elif name == b"access-control-request-method":
                asks = True
        lines = self._fixed
        if origin is not None:
            allowed = self._by_origin.get(b"*" if self._any_origin else origin)
            if allowed is not None:
                if asks and scope["method"] == "OPTIONS":
                    return [*allowed, *self._preflight], True
                lines = allowed
        if not self._request_ids:
            return lines, False
        if request_id is None or _REQUEST_ID.fullmatch(request_id) is None:
            request_id = f"{self._id_prefix}-{next(self._id_numbers):x}".encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        return [*lines, (b"x-request-id", request_id)], False

    def _prepare_cors(self, cors: Cors) -> None:
        origins = tuple(cors.origins)
        self._any_origin = origins == (_ANY,)
        if not self._any_origin:
            # Also where there is no origin: a cache must not keep that answer for a page.
            self._fixed.append((b"vary", b"origin"))
        exposed = (b"access-control-expose-headers", _list(cors.exposed_headers))
        for origin in origins:
            name = origin.encode()
            allowed = (b"access-control-allow-origin", name)
            self._by_origin[name] = [*self._fixed, allowed, exposed]
        self._preflight = [
            (b"access-control-allow-methods", _list(cors.methods)),
            (b"access-control-allow-headers", _list(cors.request_headers)),
            (b"access-control-max-age", str(cors.max_age_s).encode()),
        ]


def with_edge(
    app: ASGIApp,
    *,
    cors: Cors | None = None,
    request_ids: bool = False,
    headers: Sequence[tuple[bytes, bytes]] = SECURITY_HEADERS,
    observers: Sequence[Observer] = (),
) -> ASGIApp:
    """An application with its surroundings, or itself where there are none.

    Args:
        app: the whole application: put nothing around the result.
        cors: which other origins may use it; on every answer, refusals included.
        request_ids: answer with ``X-Request-ID``: the client's own, or a new one; it stands in the
            ``state`` of the scope as ``request_id``.
        headers: header lines of every answer.
        observers: told of every request, the first one outermost.

    Examples:
        >>> from starlette.applications import Starlette
        >>> app = with_edge(Starlette(), cors=Cors(["https://app.example"]), request_ids=True)
    """
    if cors is None and not request_ids and not headers and not observers:
        return app
    return Edge(app, cors=cors, request_ids=request_ids, headers=headers, observers=observers)


def _joined(own: list[_Line], lines: list[_Line]) -> list[_Line]:
    """The lines of an answer and those around it; `nosniff` once, where the application has it."""
    if _NOSNIFF in own:
        return [*own, *(line for line in lines if line != _NOSNIFF)]
    return [*own, *lines]


def _list(names: Sequence[str]) -> bytes:
    return ", ".join(names).encode()

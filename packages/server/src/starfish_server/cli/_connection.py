"""HTTP connections that a slow or greedy client cannot hold for long.

uvicorn bounds how long an idle connection is kept. A request that has begun is bounded here: the
time and the bytes of its head, the rate of its body, and the time a client may leave an answer
unread. Requests that arrive in one piece, which is nearly all, never start a timer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ("BoundedHttpProtocol",)


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's connection, with bounds."""

    head_timeout_s: float = 10.0
    """From the first byte of a request, or the opening of the connection, to the end of the head."""
    max_head_bytes: int = 64 * 1024
    """Request line and headers; checked as they arrive, so one more read may slip through."""
    body_interval_s: float = 10.0
    """How often the progress of a body is looked at."""
    min_body_bytes: int = 10 * 1024
    """What must have arrived of a body from one look to the next, unless it is complete."""
    unread_timeout_s: float = 30.0
    """How long an answer may wait in full buffers."""

    _phase: Literal["head", "body", "none"] = "head"
    _watching: Literal["head", "body"] | None = None
    _watch: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _has_cycle: bool = False
    _head_bytes: int = 0
    _body_bytes: int = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._start_watch("head", self.head_timeout_s, self._head_is_late)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watch()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._phase == "body":
            self._body_bytes += len(data)
        else:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._phase == "none" and not self._is_idle():
            # A whole request arrived: the one case that must be quick.
            if self._watch is not None:
                self._stop_watch()
        elif self.transport.is_closing():
            self._stop_watch()
        elif self._phase == "body":
            self._start_watch("body", self.body_interval_s, self._look_at_body)
        # Idle after data: bytes that begin no request, such as empty lines.
        elif self._head_bytes > self.max_head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large")
        else:
            self._start_watch("head", self.head_timeout_s, self._head_is_late)

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = "head"

    @override
    def on_headers_complete(self) -> None:
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
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.unread_timeout_s, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _is_idle(self) -> bool:
        return not self._has_cycle or self.cycle.response_complete

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
        if self._is_idle():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "request_timeout")
        else:
            # The request before it is still being answered, which must not be cut off.
            self._start_watch("head", self.head_timeout_s, self._head_is_late)

    def _look_at_body(self) -> None:
        self._watch = self._watching = None
        if self._phase != "body":
            return
        # Nothing can arrive while reading is paused, and that is not the client's doing.
        if self._body_bytes >= self.min_body_bytes or self.flow.read_paused:
            self._body_bytes = 0
            self._start_watch("body", self.body_interval_s, self._look_at_body)
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "request_timeout")

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        self._stop_watch()
        if self.transport.is_closing():
            return
        if self._phase != "body" or not self.cycle.response_started:
            body = json.dumps({"error": code})
            self.transport.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()
            )
        if self._phase == "body":
            # The application learns of it as of a client that went away.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

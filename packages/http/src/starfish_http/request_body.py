"""The body of a request, within limits of bytes and time, whichever part of a service reads it.

The bound holds for the bytes that were read and, where the body is coded with gzip, for the decoded
ones alike. Every other content coding is 415, since its bytes would be taken for the content.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope

from starfish_http.errors import ClientDisconnectedError, RequestRefusedError
from starfish_http.time_limit import within

__all__ = ("BodyPace", "RequestBody", "header")

_GZIP = {b"gzip", b"x-gzip"}
_GZIP_WINDOW = 31  # zlib's number for a gzip wrapper around the largest window
_DECODED_PIECE = 256 * 1024


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header line of a name, which must be lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


@dataclass(frozen=True, slots=True)
class BodyPace:
    """How fast a body must arrive."""

    interval_s: float = 10.0
    """How often its progress is looked at."""
    min_bytes: int = 10 * 1024
    """The bytes that must have arrived from one look to the next, unless it is complete."""


_DEFAULT_PACE = BodyPace()


class RequestBody:
    """The body of one request; an ASGI ``receive`` for others who want it.

    Args:
        scope: of the request.
        receive: of the request.
        max_bytes: most bytes, as sent and as decoded.
        pace: how fast they must come.
    """

    __slots__ = (
        "_content",
        "_declared",
        "_decoder",
        "_due",
        "_is_complete",
        "_is_prepared",
        "_is_told",
        "_max_bytes",
        "_pace",
        "_pieces",
        "_progress",
        "_receive",
        "_scope",
        "_sent",
        "_size",
    )

    def __init__(
        self, scope: Scope, receive: Receive, *, max_bytes: int, pace: BodyPace = _DEFAULT_PACE
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._max_bytes = max_bytes
        self._pace = pace
        self._content: bytes | None = None
        self._pieces: AsyncGenerator[bytes] | None = None
        self._declared: int | None = None
        self._decoder: _Gunzip | None = None
        self._is_prepared = False
        self._is_complete = False
        self._is_told = False
        self._size = 0
        self._progress = 0
        self._due: float | None = None
        self._sent: list[bytes] | None = None

    @property
    def is_unread(self) -> bool:
        """Whether some of it may still be on its way: the answer then needs `Lingering`."""
        return not self._is_complete and self._declared_length() != 0

    async def read(self) -> bytes:
        """The whole body, decoded; the same bytes each time.

        Raises:
            RequestRefusedError: 413 as soon as a bound is known to be passed, 408 when the client
                is too slow, 415 for a coding, 400 when it is not as long as announced or not gzip.
            ClientDisconnectedError: the client left in the middle.
        """
        if self._content is None:
            first = await self._next_raw()
            if self._is_complete and self._decoder is None:
                self._content = first
            else:
                pieces = [piece async for piece in self._decoded(first)]
                self._content = b"".join(pieces)
        return self._content

    async def sent(self) -> bytes:
        """The whole body exactly as it was sent, coding included; to be asked for before any other.

        Raises:
            RequestRefusedError: as `read`.
            ClientDisconnectedError: as `read`.
        """
        if self._content is None:
            self._sent = []
        content = await self.read()
        return b"".join(self._sent) if self._sent and self._decoder is not None else content

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body as it arrives, decoded, in pieces of at most 256 KiB where it was coded.

        Raises:
            RequestRefusedError: as `read`.
            ClientDisconnectedError: as `read`.
        """
        async for piece in self._decoded(await self._next_raw()):
            yield piece

    async def __call__(self) -> Message:
        """One ASGI message of the decoded body.

        Raises:
            RequestRefusedError: as `read`.
        """
        try:
            if self._content is not None:
                return _message(self._content, more=False)
            if self._pieces is None:
                self._pieces = self.pieces()
            try:
                return _message(await anext(self._pieces), more=True)
            except StopAsyncIteration:
                if self._is_told:
                    return await self._receive()  # a wait for the client to leave
                self._is_told = True
                return _message(b"", more=False)
        except ClientDisconnectedError:
            return {"type": "http.disconnect"}

    async def _decoded(self, raw: bytes) -> AsyncGenerator[bytes]:
        decoder = self._decoder
        size = 0
        while True:
            if decoder is None:
                if raw:
                    yield raw
            else:
                for piece in decoder.feed(raw):
                    size += len(piece)
                    if size > self._max_bytes:
                        raise self._too_large()
                    yield piece
            if self._is_complete:
                break
            raw = await self._next_raw()
        if decoder is not None:
            decoder.finish()

    async def _next_raw(self) -> bytes:
        if not self._is_prepared:
            self._prepare()
        loop_time = asyncio.get_running_loop().time
        if self._due is None:
            self._due = loop_time() + self._pace.interval_s
        try:
            message = await within(self._due - loop_time(), self._receive())
        except TimeoutError as error:
            raise self._too_slow() from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError("the body ended before it was complete")
        piece: bytes = message.get("body", b"")
        self._size += len(piece)
        self._progress += len(piece)
        if self._sent is not None and self._decoder is not None:
            self._sent.append(piece)
        if self._size > self._max_bytes:
            raise self._too_large()
        if self._progress >= self._pace.min_bytes:
            self._progress, self._due = 0, loop_time() + self._pace.interval_s
        if not message.get("more_body", False):
            self._is_complete = True
            if self._declared is not None and self._size != self._declared:
                raise RequestRefusedError(
                    400,
                    "incomplete_body",
                    f"the body has {self._size} bytes, its header promised {self._declared}",
                )
        return piece

    def _prepare(self) -> None:
        self._is_prepared = True
        self._declared = self._declared_length()
        codings = [
            coding
            for name, value in self._scope["headers"]
            if name == b"content-encoding"
            for each in value.split(b",")
            if (coding := each.strip().lower()) not in {b"", b"identity"}
        ]
        if len(codings) == 1 and codings[0] in _GZIP:
            self._decoder = _Gunzip()
        elif codings:
            raise RequestRefusedError(
                415,
                "unsupported_coding",
                f"the content coding {b', '.join(codings).decode('latin-1')!r:.80} is refused; "
                "it must be gzip or identity",
                headers={"accept-encoding": "gzip, identity"},
                leaves_body_unread=True,
            )
        if self._declared is not None and self._declared > self._max_bytes:
            raise self._too_large()

    def _declared_length(self) -> int | None:
        """How long the headers say the body is; ``None`` when its end will tell."""
        for name, value in self._scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value[:20])
            if name == b"transfer-encoding":
                return None
        # RFC 9112, section 6.3: a request of HTTP/1 that says nothing has no body.
        return 0 if self._scope.get("http_version", "1.1").startswith("1") else None

    def _too_large(self) -> RequestRefusedError:
        return RequestRefusedError(
            413,
            "body_too_large",
            f"a body of this request has at most {self._max_bytes} bytes",
            leaves_body_unread=True,
            maxBytes=self._max_bytes,
        )

    def _too_slow(self) -> RequestRefusedError:
        return RequestRefusedError(
            408,
            "body_too_slow",
            f"fewer than {self._pace.min_bytes} bytes of the body arrived within "
            f"{self._pace.interval_s:g} s",
            leaves_body_unread=True,
        )


class _Gunzip:
    """Decodes gzip (RFC 1952), several members too, a piece at a time."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._has_begun = False

    def feed(self, data: bytes) -> Generator[bytes]:
        more = bool(data)
        while more:
            member = self._member
            try:
                piece = member.decompress(data, _DECODED_PIECE)
            except zlib.error:
                raise _not_gzip() from None
            self._has_begun = True
            if piece:
                yield piece
            if member.eof:
                # What follows is another member.
                data = member.unused_data
                more = bool(data)
                self._member = zlib.decompressobj(_GZIP_WINDOW)
                self._has_begun = False
            else:
                data = member.unconsumed_tail
                # All was taken, and more may be waiting inside.
                more = bool(data) or len(piece) == _DECODED_PIECE

    def finish(self) -> None:
        if self._has_begun:
            raise _not_gzip()


def _not_gzip() -> RequestRefusedError:
    return RequestRefusedError(400, "malformed_gzip", "the body is not gzip, or ends in the middle")


def _message(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}

"""Tickets for event streams: browsers cannot send headers with an ``EventSource``.

A ticket is the head of the request that asked for it, sealed with a key of the store, so any process
that shares the store can open it, and the credential within is looked at again before each event.
Rule: a ticket opens one stream, and only for some seconds; that it was used is written to the store.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from starlette.types import Scope

from starfish_protocol.clock import Clock
from starfish_server.documents._store_secret import StoreSecret
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_context import RequestContext
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore, write_once
from starfish_server.storage.values import ABSENT, Value

__all__ = ("StreamTickets",)

_VALID_MS = 30_000
_NONCE_BYTES = 12
_MOST_BYTES = 16_384
_TICKET = re.compile(r"[A-Za-z0-9_-]{40,24000}")
_USED_PREFIX = "~server/ticket/"
_OF_THE_CONNECTION = re.compile(
    rb"accept.*|access-control-.*|cache-control|connection|content-.*|host|if-.*|last-event-id|origin|"
    rb"pragma|priority|referer|sec-.*|te|traceparent|tracestate|transfer-encoding|upgrade.*|user-agent|"
    rb"x-forwarded-.*|x-real-ip|x-request-id"
)
"""Headers that say nothing of who the caller is, or that a proxy sets anew for each request."""


class StreamTickets:
    """Issues tickets, and lets each of them in once.

    Args:
        store: remembers the tickets that were used.
        clock: tells the time.
    """

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._secret = StoreSecret(store)
        self._cipher: ChaCha20Poly1305 | None = None

    async def issued(self, request: RequestContext, namespace: str | None) -> tuple[str, int]:
        """Make a ticket for the caller of a request.

        Returns:
            The ticket, and until when it is good, in milliseconds since the epoch.

        Raises:
            RequestRefusedError: 400: the credentials are too long for the address of a stream.
            StoreUnavailableError: the store does not answer.
        """
        scope = request.scope
        expires_ms = self._clock.now_ms() + _VALID_MS
        headers = [
            [name.decode("latin-1"), value.decode("latin-1")]
            for name, value in scope["headers"]
            if _OF_THE_CONNECTION.fullmatch(name) is None
        ]
        text = orjson.dumps(
            {
                "expires": expires_ms,
                "method": scope["method"],
                "path": scope["path"],
                "raw": (scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
                "query": scope["query_string"].decode("latin-1"),
                "headers": headers,
            }
        )
        if len(text) > _MOST_BYTES:
            raise RequestRefusedError(400, "Credentials too long for a ticket")
        nonce = os.urandom(_NONCE_BYTES)
        sealed = (await self._ready()).encrypt(nonce, text, _bound_to(namespace))
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode(), expires_ms

    async def redeemed(self, request: RequestContext, namespace: str | None) -> RequestContext:
        """The request with the credentials of its ticket; the request itself where it has none.

        Raises:
            RequestRefusedError: 401: the ticket is not one, has expired, or was used.
            StoreUnavailableError: the store does not answer.
        """
        ticket = request.query.get("ticket")
        if ticket is None:
            return request
        if _TICKET.fullmatch(ticket) is None:
            raise _refused()
        try:
            raw = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
            nonce, sealed = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            text = (await self._ready()).decrypt(nonce, sealed, _bound_to(namespace))
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise _refused() from error
        head = orjson.loads(text)
        expires_ms: int = head["expires"]
        if expires_ms <= self._clock.now_ms():
            raise _refused()
        used = Value(b"", "text/plain", expires_at=expires_ms)
        try:
            await write_once(self._store, _USED_PREFIX + nonce.hex(), used, when=ABSENT)
        except PreconditionFailedError as error:
            raise _refused() from error
        return _asked_by(request, head)

    async def _ready(self) -> ChaCha20Poly1305:
        if self._cipher is None:
            self._cipher = ChaCha20Poly1305(await self._secret.derived("event tickets"))
        return self._cipher


def _asked_by(request: RequestContext, head: dict[str, Any]) -> RequestContext:
    """The stream as a request of the caller to whom the ticket was given."""
    scope = request.scope
    sealed = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in head["headers"]]
    names = {name for name, _ in sealed}
    of_the_connection = [each for each in scope["headers"] if each[0] not in names]
    asked: Scope = {
        **scope,
        "method": head["method"],
        "path": head["path"],
        "raw_path": head["raw"].encode("latin-1"),
        "query_string": head["query"].encode("latin-1"),
        "headers": [*sealed, *of_the_connection],
    }
    return request.with_scope(asked)


def _bound_to(namespace: str | None) -> bytes:
    return b"" if namespace is None else namespace.encode()


def _refused() -> RequestRefusedError:
    return RequestRefusedError(401, "Invalid ticket")

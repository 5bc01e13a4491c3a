"""Read the service as one caller sees it: in process, through the same routes as everybody.

The console has no rights of its own. What it shows of a document came out of ``/pull`` with the
credential of the person who looks, so a field, a document or a whole collection that this person
may not read cannot reach a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from starfish_server.console._session import credential_of

__all__ = ("Reply", "ask", "forward", "scope_for")

_MOST_BYTES = 4 * 1024 * 1024
_OWN = {"app", "router", "endpoint", "route", "path_params", "state", "fastapi_inner_astack"}
_DROPPED = {
    b"accept-encoding",
    b"authorization",
    b"content-length",
    b"content-type",
    b"cookie",
    b"if-match",
    b"if-none-match",
    b"range",
    b"transfer-encoding",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the service answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool = False
    """Whether the body is longer than the console takes in."""

    def json(self) -> Any:
        """The body as JSON; ``None`` where it is not."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


async def ask(
    request: Request, path: str, query: Mapping[str, str] | None = None, **headers: str
) -> Reply:
    """``GET`` a path of the service with the credential of the person who looks at ``request``."""
    status, taken, is_cut = 0, 0, False
    answered: dict[str, str] = {}
    parts: list[bytes] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, answered, taken, is_cut
        if message["type"] == "http.response.start":
            status = message["status"]
            answered = {
                k.decode("latin-1").lower(): v.decode("latin-1") for k, v in message["headers"]
            }
            return
        part = message.get("body", b"")
        taken += len(part)
        if taken > _MOST_BYTES:
            is_cut = True
        else:
            parts.append(part)

    await request.app(scope_for(request, path, query or {}, headers), receive, send)
    return Reply(status, answered, b"".join(parts), is_cut)


def forward(request: Request, path: str, query: Mapping[str, str]) -> ASGIApp:
    """Answer with an open stream of the service, for the person who looks at ``request``."""

    async def stream(_scope: Scope, receive: Receive, send: Send) -> None:
        last = request.headers.get("last-event-id")
        headers = {} if last is None else {"last-event-id": last}
        await request.app(scope_for(request, path, query, headers), receive, send)

    return stream


def scope_for(
    request: Request, path: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> Scope:
    """The request's scope, turned to another path of the application."""
    scope = {key: value for key, value in request.scope.items() if key not in _OWN}
    root = scope.get("root_path", "")
    kept = [(name, value) for name, value in scope["headers"] if name not in _DROPPED]
    credential = credential_of(request)
    if credential is not None:
        kept.append((b"authorization", f"Bearer {credential}".encode("latin-1", "replace")))
    kept.extend(
        (name.replace("_", "-").encode(), value.encode("latin-1", "replace"))
        for name, value in headers.items()
    )
    scope |= {
        "method": "GET",
        "path": f"{root}{path}",
        "raw_path": quote(f"{root}{path}", safe="/:@").encode(),
        "query_string": urlencode(query).encode(),
        "headers": kept,
    }
    return scope

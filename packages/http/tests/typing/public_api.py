"""Read by the type checker, never run: the public surface as a user sees it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from starfish_http import Authenticate, Authenticator, Caller, TokenFile, anyone
from starfish_http.answers import Answer, json_answer
from starfish_http.callers import (
    TokenAuthenticator,
    TokenRecord,
    as_authenticator,
    create_token_role_resolver,
)
from starfish_http.callers.jwt import JwtAuthenticator, KeyCache, keys_from_url
from starfish_http.entity_tags import WriteConditions, write_conditions
from starfish_http.events import EventStream, format_event
from starfish_http.linger import Lingering
from starfish_http.metrics import Metrics
from starfish_http.middleware import AccessLog, Cors, with_edge
from starfish_http.mounting import SelfStarting
from starfish_http.ranges import ByteRange, range_of
from starfish_http.rate_limit import Counter, Limit, RateLimiter, SharedCounters
from starfish_http.request_body import RequestBody
from starfish_http.serve import ServeOptions, listen, run, serve_app, stopping_of
from starfish_http.tracing import Tracing


async def callers(request: Request) -> None:
    tokens = TokenFile(Path("tokens.json"))
    assert_type(tokens.create("ada", roles=["staff"]), str)
    assert_type(tokens.identify("sft_"), TokenRecord | None)
    authenticate = create_token_role_resolver(tokens)
    assert_type(authenticate, TokenAuthenticator)
    fits: Authenticate = authenticate
    assert_type(await fits(request), Caller)
    assert_type(anyone, Authenticator)
    assert_type(as_authenticator(fits, plain="request"), Authenticator)
    assert_type((await anyone(request)).allows("pull", "notes/1"), bool)
    keys = KeyCache(keys_from_url("https://login.example/jwks"))
    also_fits: Authenticate = JwtAuthenticator(keys, issuer="a", audience="b")
    assert_type(await also_fits(request), Caller)


async def requests(scope: Scope, receive: Receive, send: Send) -> None:
    body = RequestBody(scope, receive, max_bytes=1000)
    assert_type(await body.read(), bytes)
    is_receive: Receive = body
    assert_type(write_conditions(scope), WriteConditions | None)
    assert_type(range_of(scope, 10, b'"a"'), ByteRange | None)
    answer = json_answer(200, {})
    assert_type(answer, Answer)
    await Lingering(answer)(scope, is_receive, send)
    limiter = RateLimiter(SharedCounters())
    assert_type(await limiter.take([Counter(Limit(10, 1000), "ada")]), int | None)
    assert_type(stopping_of(scope), asyncio.Event | None)

    async def blocks() -> AsyncIterator[bytes]:
        yield format_event("x")

    is_app: ASGIApp = EventStream(blocks())
    await is_app(scope, receive, send)


async def serving() -> None:
    app: ASGIApp = SelfStarting(Starlette())
    observers = [AccessLog(), Metrics(), Tracing()]
    app = with_edge(app, cors=Cors(["https://app.example"]), observers=observers)
    with listen("127.0.0.1", 0) as listener:
        stopped_by = await serve_app(app, listener, on_ready=lambda: None)
    assert_type(stopped_by, signal.Signals)
    assert_type(run(lambda: app, options=ServeOptions(workers=2)), int)

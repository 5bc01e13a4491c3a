"""A server for the tests: ``python edge_app.py [--drain S] [--workers N] [--connections N] …``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from starfish_http.bounded_protocol import ConnectionLimits
from starfish_http.errors import HttpError, RequestRefusedError, problem_handlers
from starfish_http.serve import ServeOptions, run, stopping_of

MAX_BODY = 1_000_000
options: argparse.Namespace


async def health(_request: Request) -> Response:
    return JSONResponse({"ok": True})


async def echo(request: Request) -> Response:
    declared = request.headers.get("content-length", "0")
    if int(declared) > MAX_BODY:
        raise RequestRefusedError(413, "body_too_large", "the body is too large")
    return Response(await request.body())


async def stream(request: Request) -> Response:
    stopping = stopping_of(request.scope)
    assert stopping is not None

    async def blocks() -> AsyncIterator[bytes]:
        while not stopping.is_set():
            yield b": \n\n"
            await asyncio.wait((asyncio.ensure_future(stopping.wait()),), timeout=0.2)

    return StreamingResponse(blocks(), media_type="text/event-stream")


async def stuck(request: Request) -> Response:
    kind = request.path_params["kind"]
    if kind == "waits":
        await asyncio.sleep(600)
    elif kind == "swallows":
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                continue
    elif kind == "blocks":
        time.sleep(600)  # noqa: ASYNC251 - on purpose
    elif kind == "thread":
        await asyncio.to_thread(time.sleep, 600)
    return Response()


async def state(request: Request) -> Response:
    return JSONResponse({"opened": request.state.opened, "thread": threading.active_count()})


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, str]]:
    if options.start == "refuses":
        raise HttpError("the store is not there")
    if options.start == "fails":
        raise ZeroDivisionError
    if options.start == "waits":
        sys.stdout.write("starting\n")
        sys.stdout.flush()
        await asyncio.sleep(600)
    yield {"opened": "yes"}
    if options.stop == "waits":
        await asyncio.sleep(600)
    if options.log is not None:
        with Path(options.log).open("a") as log:  # noqa: ASYNC230 - one line, at the end
            log.write("closed\n")


def create_app() -> Starlette:
    return Starlette(
        routes=[
            Route("/health", health),
            Route("/echo", echo, methods=["POST"]),
            Route("/stream", stream),
            Route("/state", state),
            Route("/stuck/{kind}", stuck),
        ],
        exception_handlers=problem_handlers(),
        lifespan=lifespan,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--drain", type=float, default=2)
    parser.add_argument("--close", type=float, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--patience", type=float, default=2)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--start", default="")
    parser.add_argument("--stop", default="")
    parser.add_argument("--log")
    options = parser.parse_args()
    limits = ConnectionLimits(
        head_timeout_s=options.patience,
        body_interval_s=options.patience,
        max_connections=options.connections,
    )
    serve_options = ServeOptions(
        workers=options.workers, limits=limits, drain_s=options.drain, close_s=options.close
    )
    sys.exit(
        run(create_app, host=options.host, port=options.port, options=serve_options, name="edge")
    )

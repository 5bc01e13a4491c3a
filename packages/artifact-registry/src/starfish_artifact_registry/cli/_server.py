"""The server of ``serve``: one process, one listening socket."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn
from typing_extensions import override

from starfish_artifact_registry.http._application import create_registry_app
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.http._token_file import TokenFile
from starfish_artifact_registry.registry import Registry

__all__ = ("run_server",)


async def run_server(
    registry: Registry,
    listener: socket.socket,
    *,
    tokens: Path | None,
    max_file_bytes: int | None,
    drain_s: int,
    on_ready: Callable[[str], None],
) -> signal.Signals:
    """Serve until SIGTERM or Ctrl-C, then finish the requests in flight, and say which of them it was."""
    authenticate = None
    if tokens is not None:
        file = TokenFile(tokens)
        await asyncio.to_thread(file.read)
        authenticate = file.authenticate
    limits = HttpLimits() if max_file_bytes is None else HttpLimits(max_file_bytes=max_file_bytes)
    closing = asyncio.Event()
    config = uvicorn.Config(
        create_registry_app(registry, authenticate=authenticate, limits=limits, closing=closing),
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=1000,
        timeout_graceful_shutdown=drain_s,
    )
    address = listener.getsockname()
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    server = _Server(config, closing, lambda: on_ready(f"http://{host}:{address[1]}"))
    await server.serve(sockets=[listener])
    return server.stopped_by


class _Server(uvicorn.Server):
    """Says when it is ready, ends streams when it stops, and leaves the end to its caller.

    uvicorn raises the signal anew when it is done, which would cut off the closing of the registry.
    """

    def __init__(
        self, config: uvicorn.Config, closing: asyncio.Event, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._closing = closing
        self._on_ready = on_ready
        self.stopped_by = signal.SIGTERM

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.stopped_by = signal.Signals(sig)
        super().handle_exit(sig, frame)

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        handled = (signal.SIGTERM, signal.SIGINT)
        before = {each: signal.signal(each, self.handle_exit) for each in handled}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

"""The server of ``serve``: one process, one listening socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from typing_extensions import override

from starfish_artifact_registry.http.application import create_registry_app
from starfish_artifact_registry.http.limits import HttpLimits
from starfish_artifact_registry.http.token_file import TokenFile
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
) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what is in flight."""
    authenticate = None
    if tokens is not None:
        file = TokenFile(tokens)
        await asyncio.to_thread(file.read)
        authenticate = file.authenticate
    limits = HttpLimits() if max_file_bytes is None else HttpLimits(max_file_bytes=max_file_bytes)
    config = uvicorn.Config(
        create_registry_app(registry, authenticate=authenticate, limits=limits),
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
    await _Server(config, lambda: on_ready(f"http://{host}:{address[1]}")).serve(sockets=[listener])


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

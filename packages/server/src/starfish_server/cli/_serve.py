"""One process that serves: start, tell that it is ready, drain, stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import uvicorn
from fastapi import FastAPI
from typing_extensions import override

from starfish_server.app import anonymous_role_resolver, create_app
from starfish_server.auth.bearer import create_token_role_resolver
from starfish_server.auth.result import RoleResolver
from starfish_server.auth.token_file import TokenFile
from starfish_server.cli._connection import BoundedHttpProtocol
from starfish_server.config.schema import ConfigEndpointOptions, SyncConfig
from starfish_server.storage.base import AbstractObjectStore
from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore

__all__ = ("ServeSettings", "serve")


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What every process of one server has in common."""

    config: SyncConfig
    store: Literal["sqlite", "filesystem", "memory"]
    data: Path | None
    """Folder of the store; ``None`` for memory."""
    tokens: Path | None
    workers: int
    trusted_proxy_hops: int
    config_endpoint: Literal["public", "role-filtered"] | None
    max_connections: int
    keep_alive_s: int
    drain_s: int
    access_log: bool


def serve(
    settings: ServeSettings,
    listener: socket.socket,
    *,
    on_ready: Callable[[], None],
    lifeline: int | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight and stop.

    Args:
        settings: what to serve.
        listener: a bound socket; closed when this returns.
        on_ready: called once requests are answered.
        lifeline: a file descriptor whose end of file means the same as SIGTERM.

    Returns:
        The exit status of the process.

    Raises:
        StarfishError: the store, a plugin or the configuration does not let it start.
    """
    stopping = asyncio.Event()
    app = _app(settings, stopping)
    config = uvicorn.Config(
        app,
        http=BoundedHttpProtocol,
        ws="none",
        lifespan="off",  # held around the server, so that an error reaches the caller as it is
        interface="asgi3",
        log_config=None,
        access_log=settings.access_log,
        proxy_headers=False,  # the router reads X-Forwarded-For, as far as it is trusted
        server_header=False,
        workers=1,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.drain_s,
    )
    server = _Server(config, on_ready, lifeline, stopping)

    def stop(_number: int, _frame: FrameType | None) -> None:
        # While it serves, uvicorn handles signals itself, and raises them again afterwards.
        if not server.was_ready:
            sys.exit(0)

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve_within_lifespan(app, server, listener))
    return 0


async def _serve_within_lifespan(
    app: FastAPI, server: uvicorn.Server, listener: socket.socket
) -> None:
    async with app.router.lifespan_context(app):
        await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        on_ready: Callable[[], None],
        lifeline: int | None,
        stopping: asyncio.Event,
    ) -> None:
        super().__init__(config)
        self.was_ready = False
        self._on_ready = on_ready
        self._lifeline = lifeline
        self._stopping = stopping

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.was_ready = True
        if self._lifeline is not None:
            asyncio.get_running_loop().add_reader(self._lifeline, self._parent_is_gone)
        self._on_ready()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()  # event streams would keep it waiting
        await super().shutdown(sockets)

    def _parent_is_gone(self) -> None:
        if self._lifeline is not None:
            asyncio.get_running_loop().remove_reader(self._lifeline)
        self.should_exit = True


def _app(settings: ServeSettings, stopping: asyncio.Event) -> FastAPI:
    store = _store(settings)
    resolver: RoleResolver = anonymous_role_resolver
    if settings.tokens is not None:
        resolver = create_token_role_resolver(TokenFile(settings.tokens))
    endpoint = settings.config_endpoint
    return create_app(
        settings.config,
        store=store,
        role_resolver=resolver,
        trusted_proxy_hops=settings.trusted_proxy_hops,
        stopping=stopping,
        config_endpoint=None if endpoint is None else ConfigEndpointOptions(auth=endpoint),
        # One process counts in memory; several have to count together.
        rate_limit_store=store if settings.workers > 1 else None,
    )


def _store(settings: ServeSettings) -> AbstractObjectStore:
    if settings.store == "memory" or settings.data is None:
        return MemoryObjectStore()
    if settings.store == "filesystem":
        return FilesystemObjectStore(settings.data / "documents")
    return SqliteObjectStore(settings.data / "documents.sqlite")

"""A whole application: the one module that knows configuration, store, plugins and routes at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from starfish_http.components import Component
from starfish_http.errors import problem_handlers
from starfish_http.mounting import SelfStarting
from starfish_protocol.plugins import ServerPlugin
from starfish_server.auth._result import AuthResult, RoleResolver
from starfish_server.config._validate import validate_config
from starfish_server.config.schema import SyncConfig
from starfish_server.mounting._application import SyncFastAPI
from starfish_server.mounting._sync_router import SyncRouterOptions, create_sync_router
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.base import AbstractObjectStore

__all__ = ("anonymous_role_resolver", "create_app")

_VERSION = version("starfish-server")


async def anonymous_role_resolver(_request: Request) -> AuthResult:
    """Every caller is anonymous: only ``public`` collections can be used."""
    return AuthResult(identity=None)


def create_app(
    config: SyncConfig,
    *,
    store: AbstractObjectStore,
    role_resolver: RoleResolver = anonymous_role_resolver,
    plugins: Sequence[ServerPlugin] = (),
    title: str = "Starfish",
    openapi_url: str | None = "/openapi.json",
    components: Sequence[Component] = (),
    **router_options: Any,
) -> FastAPI:
    """An application that serves a configuration at the root.

    Its lifespan opens the store, then starts the plugins in order; at the end it stops them in
    reverse order and closes the store, so neither may be shared with another application. The
    ASGI server finishes the requests in flight before the lifespan ends.

    Args:
        config: what to serve.
        store: where documents are kept.
        role_resolver: answers who a caller is.
        plugins: hooks, in the order they run.
        title: of the OpenAPI document.
        openapi_url: where that document is; ``None`` hides it.
        components: further parts of the service, each served below ``/<name>``. They start in
            order, after the store, and stop in reverse order before it.
        router_options: passed on to `SyncRouterOptions`.

    Raises:
        ConfigError: the configuration cannot be served; every problem is listed.

    Examples:
        >>> from starfish_server.storage.memory import MemoryObjectStore
        >>> app = create_app(SyncConfig(collections=[]), store=MemoryObjectStore())
        >>> app.title
        'Starfish'
    """
    validate_config(config)

    opened = as_object_store(store)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        app.is_started = True
        try:
            # A store opens on first use; better now than in somebody's request.
            await opened.ping()
            async with AsyncExitStack() as running:
                for component in components:
                    await running.enter_async_context(component.running())
                yield
        finally:
            app.is_started = False
            await store.close()

    app = _SelfStartingFastAPI(
        title=title,
        version=_VERSION,
        openapi_url=openapi_url,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers=problem_handlers(RequestValidationError),
    )
    options = SyncRouterOptions(
        store=store,
        config=config,
        role_resolver=role_resolver,
        plugins=plugins,
        **router_options,
    )
    app.include_router(create_sync_router(options))
    for component in components:
        if isinstance(component.router, APIRouter):
            app.include_router(component.router, prefix=f"/{component.name}")
        elif component.router is not None:
            app.mount(f"/{component.name}", component.router)
    return app


class _SelfStartingFastAPI(SyncFastAPI):
    """Runs its lifespan with the first request where no server did: below ``app.mount``, say."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.is_started = False
        self._self_starting = SelfStarting(super().__call__, name=f"the application {self.title!r}")

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.is_started or scope["type"] != "http":
            await super().__call__(scope, receive, send)
        else:
            await self._self_starting(scope, receive, send)

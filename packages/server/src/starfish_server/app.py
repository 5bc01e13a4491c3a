"""A whole application: the one module that knows configuration, store, plugins and routes at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from starfish_http.answers import send_answer
from starfish_http.components import Component
from starfish_http.errors import problem_handlers
from starfish_http.middleware import AccessLog, Cors, Observer, with_edge
from starfish_http.mounting import SelfStarting
from starfish_protocol.constants import CORS_ALLOW_HEADERS
from starfish_protocol.plugins import ServerPlugin
from starfish_server.auth._result import AuthResult, RoleResolver
from starfish_server.config._validate import validate_config
from starfish_server.config.schema import SyncConfig
from starfish_server.mounting._application import SyncFastAPI
from starfish_server.mounting._sync_router import SyncRouterOptions, create_sync_router
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.base import AbstractObjectStore

__all__ = ("EdgeOptions", "anonymous_role_resolver", "create_app")

if TYPE_CHECKING:
    from starfish_http.metrics import Metrics

_VERSION = version("starfish-server")


_CORS_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
_CORS_HEADERS = (
    *CORS_ALLOW_HEADERS, "Accept", "Idempotency-Key", "If-Match", "If-None-Match", "If-Range",
    "Last-Event-ID", "Range", "X-Request-ID",
)  # fmt: skip
_CORS_MAX_AGE_S = 86_400
_METRICS_PATH = "/metrics"


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """Everything around an application's answers: all of it inside the fast path, off unless asked for.

    Three header lines that keep answers from being sniffed, framed or told to other sites are on
    every answer. Pages of other origins are a matter of the configuration (``cors``).
    """

    request_ids: bool = False
    """Whether answers name their request in ``X-Request-ID``: the client's own text, or a new one."""
    metrics: bool = False
    """Whether requests are counted, and ``/metrics`` tells Prometheus; needs the extra ``metrics``."""
    tracing: bool = False
    """Whether each request is an OpenTelemetry span of the global provider; needs the extra ``metrics``."""
    access_log: bool = False
    """Whether each request is a line of the logger ``starfish_http.access``, without its query."""


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
    edge: EdgeOptions | None = None,
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
        edge: the parts around every answer; ``None`` for header lines and ``cors`` alone.
        components: further parts of the service, each served below ``/<name>``. They start in
            order, after the store, and stop in reverse order before it.
        router_options: passed on to `SyncRouterOptions`.

    Raises:
        ConfigError: the configuration cannot be served; every problem is listed.
        ImportError: the extra of an edge option is missing.

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

    app = _ServedFastAPI(
        edge=edge or EdgeOptions(),
        cors=_cors(config),
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


def _cors(config: SyncConfig) -> Cors | None:
    if config.cors is None or not config.cors.origins:
        return None
    return Cors(
        config.cors.origins,
        methods=_CORS_METHODS,
        request_headers=_CORS_HEADERS,
        max_age_s=_CORS_MAX_AGE_S,
    )


class _ServedFastAPI(SyncFastAPI):
    """Has its surroundings, and runs its lifespan with the first request where no server did."""

    def __init__(self, *, edge: EdgeOptions, cors: Cors | None, **options: Any) -> None:
        super().__init__(**options)
        self.is_started = False
        self._self_starting = SelfStarting(super().__call__, name=f"the application {self.title!r}")
        observers: list[Observer] = []
        self._metrics: Metrics | None = None
        if edge.tracing:
            from starfish_http.tracing import Tracing

            observers.append(Tracing())
        if edge.metrics:
            from starfish_http.metrics import Metrics

            self._metrics = Metrics()
            observers.append(self._metrics)
        if edge.access_log:
            observers.append(AccessLog())
        self._whole = with_edge(
            self._answered, cors=cors, request_ids=edge.request_ids, observers=observers
        )

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._whole(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._metrics is not None and scope["path"] == _METRICS_PATH:
            is_head = scope["method"] == "HEAD"
            await send_answer(send, self._metrics.answer(), without_body=is_head)
        elif self.is_started:
            await super().__call__(scope, receive, send)
        else:
            await self._self_starting(scope, receive, send)

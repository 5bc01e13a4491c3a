"""The routes of a registry, for an application that includes them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

from starfish_artifact_registry.http._access import AccessControl, Authorizer
from starfish_artifact_registry.http._custody_routes import add_custody_routes
from starfish_artifact_registry.http._error_responses import route_class
from starfish_artifact_registry.http._event_routes import add_event_routes
from starfish_artifact_registry.http._file_routes import add_file_routes
from starfish_artifact_registry.http._limits import HttpLimits
from starfish_artifact_registry.http._package_routes import add_package_routes
from starfish_artifact_registry.http._query_routes import add_query_routes
from starfish_artifact_registry.http._tree_routes import NoteSigner, add_tree_routes
from starfish_artifact_registry.registry import Registry
from starfish_http.callers import as_authenticator
from starfish_http.errors import RequestRefusedError

__all__ = ("create_registry_router",)

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}


def create_registry_router(
    registry: Registry,
    *,
    authenticate: Callable[[Any], Awaitable[Any]],
    authorize: Authorizer | None = None,
    limits: HttpLimits | None = None,
    closing: asyncio.Event | None = None,
    note_signer: NoteSigner | None = None,
) -> APIRouter:
    """Serve a registry over HTTP.

    Every answer that is not a success is JSON ``{"error": code, "detail": …, "status": …}``.

    Args:
        registry: the registry; it stays the caller's.
        authenticate: who is calling. An `Authenticator` of ``starfish_http.callers``, such as
            ``create_token_role_resolver(TokenFile(…))``; a function of a request; or a function
            that answers which actor a bearer token belongs to. ``anyone`` lets everybody in, under
            whichever name the header ``Registry-Actor`` gives: for a service that only trusted
            programs reach.
        authorize: answers whether a caller may do something. Without it, callers who have roles or
            a token of a file may do what `ROLES` says, and all others everything.
        limits: what one request may cost.
        closing: set it when the service stops: streams of events end, which else would be waited
            for. Under ``starfish_http.serve`` they end by themselves.
        note_signer: signs the heads of the log's tree at ``/tiles/checkpoint``; without one there
            are tiles only.

    Raises:
        TypeError: ``authenticate`` is ``None`` or cannot be called.

    Examples:
        >>> from fastapi import FastAPI
        >>> async def actor_of(token):
        ...     return "ada" if token == "a-long-random-secret" else None
        >>> def create_app(registry):
        ...     app = FastAPI()
        ...     app.include_router(
        ...         create_registry_router(registry, authenticate=actor_of), prefix="/evidence"
        ...     )
        ...     return app
    """
    router = APIRouter(tags=["registry"])
    access = AccessControl(as_authenticator(authenticate, plain="token"), authorize)
    limits = limits or HttpLimits()
    for add in (
        add_package_routes,
        add_query_routes,
        add_file_routes,
        add_custody_routes,
    ):
        add(router, registry, access, limits)
    add_event_routes(router, registry, access, limits, closing)
    add_tree_routes(router, registry, access, limits, note_signer)
    _refuse_other_methods(
        router, route_class(limits, max_body_bytes=limits.max_json_bytes, any_query=True)
    )
    return router


def _refuse_other_methods(router: APIRouter, route_class: type[APIRoute]) -> None:
    """Answer 405 in the shape of all refusals, naming the methods of all routes of a path."""
    methods: dict[str, set[str]] = defaultdict(set)
    for route in router.routes:
        if isinstance(route, APIRoute):
            methods[route.path] |= route.methods or set()
    for path, allowed in methods.items():
        router.add_api_route(
            path,
            _refusal(", ".join(sorted(allowed))),
            methods=sorted(_METHODS - allowed),
            include_in_schema=False,
            route_class_override=route_class,
        )


def _refusal(allowed: str) -> Callable[[], Awaitable[None]]:
    async def refuse() -> None:
        raise RequestRefusedError(
            405, "method_not_allowed", f"allowed here: {allowed}", headers={"allow": allowed}
        )

    return refuse

"""The routes of a registry, for an application that includes them."""

from __future__ import annotations

from fastapi import APIRouter

from starfish_artifact_registry.http._event_routes import add_event_routes
from starfish_artifact_registry.http._file_routes import add_file_routes
from starfish_artifact_registry.http._package_routes import add_package_routes
from starfish_artifact_registry.http.access import AccessControl, Authenticator, Authorizer
from starfish_artifact_registry.http.limits import HttpLimits
from starfish_artifact_registry.registry import Registry

__all__ = ("create_registry_router",)


def create_registry_router(
    registry: Registry,
    *,
    authenticate: Authenticator | None = None,
    authorize: Authorizer | None = None,
    limits: HttpLimits | None = None,
) -> APIRouter:
    """Serve a registry over HTTP.

    Every answer that is not a success is JSON ``{"error": code, "message": …}``. Without
    ``authenticate`` everybody may do everything, under whichever name the header
    ``Registry-Actor`` gives: for a service that only trusted programs reach.

    Args:
        registry: what is served; it stays the caller's.
        authenticate: answers which actor a bearer token belongs to.
        authorize: answers whether an actor may do something; everybody may everything without.
        limits: what one request may cost.

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
    access = AccessControl(authenticate, authorize)
    limits = limits or HttpLimits()
    for add in (add_package_routes, add_file_routes, add_event_routes):
        add(router, registry, access, limits)
    return router

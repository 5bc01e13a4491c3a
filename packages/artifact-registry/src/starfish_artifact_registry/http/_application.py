"""A whole application that serves one registry at the root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError

from starfish_artifact_registry.http._router import create_registry_router
from starfish_artifact_registry.registry import Registry
from starfish_http.errors import problem_handlers

__all__ = ("create_registry_app",)


def create_registry_app(
    registry: Registry, *, authenticate: Callable[[Any], Awaitable[Any]], **router_options: Any
) -> FastAPI:
    """An application of nothing but a registry's routes, with its OpenAPI document.

    Args:
        registry: the registry; it stays the caller's.
        authenticate: who is calling; see `create_registry_router`.
        router_options: passed on to `create_registry_router`.
    """
    app = FastAPI(
        title="Artifact registry",
        version=version("starfish-artifact-registry"),
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(
        create_registry_router(registry, authenticate=authenticate, **router_options)
    )

    for kind, answer in problem_handlers(RequestValidationError).items():
        app.add_exception_handler(kind, answer)
    return app

"""A whole application that serves one registry at the root."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from starfish_artifact_registry.http._error_responses import answer_to
from starfish_artifact_registry.http._router import create_registry_router
from starfish_artifact_registry.registry import Registry

__all__ = ("create_registry_app",)


def create_registry_app(registry: Registry, **router_options: Any) -> FastAPI:
    """An application of nothing but a registry's routes, with its OpenAPI document.

    Args:
        registry: the registry; it stays the caller's.
        router_options: passed on to `create_registry_router`.
    """
    app = FastAPI(
        title="Artifact registry",
        version=version("starfish-artifact-registry"),
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(create_registry_router(registry, **router_options))

    async def unknown_path(_request: Request, error: Exception) -> Response:
        return answer_to(error)

    app.add_exception_handler(HTTPException, unknown_path)
    return app

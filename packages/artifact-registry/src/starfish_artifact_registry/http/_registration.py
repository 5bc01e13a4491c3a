"""How routes are added, and the headers that several of them describe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

__all__ = ("ETAG", "LOCATION", "add_get", "router_prefix")

ETAG: dict[str, Any] = {
    "schema": {"type": "string"},
    "description": "Content address of the body, in quotes.",
}
LOCATION: dict[str, Any] = {
    "schema": {"type": "string"},
    "description": "Path of the new resource.",
}


def add_get(
    router: APIRouter,
    path: str,
    endpoint: Callable[..., Awaitable[Response]],
    *,
    route_class: type[APIRoute],
    **description: Any,
) -> None:
    """Answer ``GET``, and ``HEAD`` with the same headers."""
    router.add_api_route(
        path,
        endpoint,
        methods=["GET"],
        response_class=Response,
        route_class_override=route_class,
        **description,
    )
    router.add_api_route(
        path,
        endpoint,
        methods=["HEAD"],
        response_class=Response,
        route_class_override=route_class,
        include_in_schema=False,
    )


def router_prefix(request: Request, path: str) -> str:
    """What stands before the router's own path in the path of a request, as a URL has it."""
    return quote(request.scope["path"].removesuffix(path))

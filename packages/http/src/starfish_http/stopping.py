"""How an application learns that its server begins to stop."""

from __future__ import annotations

import asyncio

from starlette.types import Scope

__all__ = ("STOPPING", "stopping_of")

STOPPING = "starfish_http.stopping"
"""Where the event stands in the ``state`` of a request's scope."""


def stopping_of(scope: Scope) -> asyncio.Event | None:
    """Set when the server that a request came through begins to stop: open streams end then.

    ``None`` where another server runs the application.
    """
    found = scope.get("state", {}).get(STOPPING)
    return found if isinstance(found, asyncio.Event) else None

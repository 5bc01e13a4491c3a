"""A FastAPI application that leaves out what nobody asked for.

Between a request and its route FastAPI has seven layers, for middleware, error pages, telemetry
and exit stacks. They cost as much as reading a document. While an application uses none of them,
`SyncFastAPI` hands the paths of a sync router straight to it; everything else, and everything as
soon as it does use one of them, goes FastAPI's way.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from starfish_http.answers import send_answer
from starfish_server.mounting._dispatch import Dispatcher, SyncRouter

__all__ = ("SyncFastAPI",)


class SyncFastAPI(FastAPI):
    """A FastAPI application for a sync router, with or without routes of its own.

    Examples:
        >>> SyncFastAPI(title="Notes").title
        'Notes'
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._direct: list[tuple[str, Dispatcher]] = []
        self._goes_direct: bool | None = None

    @override
    def include_router(self, router: APIRouter, *, prefix: str = "", **options: Any) -> None:
        """As FastAPI's; a sync router included with nothing but a prefix may be reached directly."""
        super().include_router(router, prefix=prefix, **options)
        if isinstance(router, SyncRouter) and not options and not self.router.dependencies:
            self._direct.append((f"{self.router.prefix}{prefix}/", router.dispatcher))

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope.get("root_path") and self._may_go_direct():
            path = scope["path"]
            for prefix, dispatcher in self._direct:
                if path.startswith(prefix):
                    found = dispatcher.find(path[len(prefix) :])
                    if found is not None:
                        scope["app"] = self
                        scope["path_params"] = found.params
                        if found.route.documented is not None:
                            scope["route"] = found.route.documented
                        await dispatcher.respond(found, scope, receive, send)
                        return
                    refusal = await dispatcher.refusal_of_stranger(scope, receive)
                    if refusal is not None:
                        await send_answer(send, refusal)
                        return
        await super().__call__(scope, receive, send)

    def _may_go_direct(self) -> bool:
        if self._goes_direct is None:
            if self.middleware_stack is None:  # from here on Starlette refuses more middleware
                self.middleware_stack = self.build_middleware_stack()
            # Where FastAPI does not say whether it traces requests, it is assumed to.
            telemetry = getattr(self, "_native_telemetry", None)
            self._goes_direct = (
                not self.user_middleware
                and not self.root_path
                and self.router.max_body_size is None
                and telemetry is not None
                and not telemetry.enabled()
            )
        return self._goes_direct

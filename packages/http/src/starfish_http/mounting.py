"""An application that starts by itself where nobody starts it.

``outer.mount("/sync", app)`` serves ``app`` and never runs its lifespan: what it opens at its start is not
open, and nothing says so. `SelfStarting` runs the lifespan with the first request then, tells it in the log, and
answers 503 while it cannot start. When the event loop ends, the application is stopped in order.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from starfish_http._lifespan import Lifespan, LifespanError
from starfish_http.answers import problem_answer

__all__ = ("LifespanError", "SelfStarting")

_LOG = logging.getLogger(__name__)


class SelfStarting:
    """An application whose lifespan runs in any case: its server's, or with the first request.

    Put it around the whole application, or let the ``__call__`` of an application of your own go
    through one. Once it has started, a request costs two comparisons.

    Args:
        app: the application.
        name: for the log.
        retry_s: after a start that failed, how long requests are answered 503 before the next try.

    Examples:
        >>> from starlette.applications import Starlette
        >>> outer = Starlette()
        >>> outer.mount("/notes", SelfStarting(Starlette(), name="notes"))
    """

    def __init__(
        self, app: ASGIApp, *, name: str = "the application", retry_s: float = 1.0
    ) -> None:
        self._app = app
        self._name = name
        self._retry_s = retry_s
        self._state: dict[str, Any] = {}
        self._phase: Literal["new", "started", "failed"] = "new"
        self._retry_at = 0.0
        self._starting = asyncio.Lock()
        self._lifespan: Lifespan | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, after a start where there was none."""
        if self._lifespan is not None and self._lifespan.has_ended():
            # The event loop that it was started in is gone, and all that it had open with it.
            self._phase, self._lifespan, self._state = "new", None, {}
            self._starting = asyncio.Lock()
        if self._phase != "started":
            if scope["type"] == "lifespan":
                self._phase = "started"
            elif not await self._start():
                answer = problem_answer(
                    503,
                    "not_started",
                    f"{self._name} could not start; the server's log says why",
                    [(b"retry-after", b"5")],
                )
                await answer(scope, receive, send)
                return
        if self._state:
            scope["state"] = {**self._state, **scope.get("state", {})}
        await self._app(scope, receive, send)

    async def stop(self) -> None:
        """Stop an application that started by itself; the end of the event loop does it, too."""
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            self._phase = "new"
            self._state = {}
            await lifespan.stop()

    async def _start(self) -> bool:
        loop = asyncio.get_running_loop()
        async with self._starting:
            if self._phase == "started":
                return True
            if self._phase == "failed" and loop.time() < self._retry_at:
                return False
            lifespan = Lifespan(self._app)
            try:
                await lifespan.start()
            except Exception as error:  # noqa: BLE001 - whatever it is, the requests are told 503
                self._phase = "failed"
                self._retry_at = loop.time() + self._retry_s
                _LOG.error("%s could not start: %s", self._name, error, exc_info=error)
                return False
            self._lifespan = lifespan
            self._state = lifespan.state
            self._phase = "started"
            _LOG.warning(
                "%s was mounted where its lifespan does not run; it started with the first request",
                self._name,
            )
            return True

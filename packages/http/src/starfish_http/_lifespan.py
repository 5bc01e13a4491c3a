"""The start and the stop of an ASGI application (its lifespan), driven by ourselves.

Rule: the error that a start-up ends with reaches the caller as it is, not as text.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.types import ASGIApp, Message

from starfish_http.errors import HttpError

__all__ = ("Lifespan", "LifespanError")

_LOG = logging.getLogger(__name__)


class LifespanError(HttpError):
    """An application said that it could not start or stop, without raising an error of its own."""


class Lifespan:
    """Starts an application and stops it again, each once.

    When the event loop ends first, which cancels every task, the application is stopped in order.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        """What the application yielded; belongs into the ``state`` of each request's scope."""
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._started = asyncio.Event()
        self._stop = asyncio.Event()
        self._begun = False
        self._failure: str | None = None

    async def start(self) -> None:
        """Return when the application has started, or has no lifespan.

        Raises:
            Exception: the error that its start-up raised.
            LifespanError: it said that it failed, and raised nothing.
        """
        self._task = asyncio.create_task(self._run(), name="lifespan")
        started = asyncio.create_task(self._started.wait())
        try:
            await asyncio.wait((self._task, started), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait((self._task,))
            raise
        finally:
            started.cancel()
        if self._started.is_set():
            return
        error = self._task.exception()
        if self._failure is None:
            return  # an application without a lifespan raises, or returns, without a word
        raise error or LifespanError(self._failure or "the application could not start")

    async def stop(self) -> None:
        """Return when the application has stopped.

        Raises:
            Exception: the error that its shutdown raised.
            LifespanError: it said that it failed, and raised nothing.
        """
        self._stop.set()
        if self._task is None:
            return
        was_started = self._started.is_set()
        await asyncio.wait((self._task,))
        if was_started and (error := self._task.exception()) is not None:
            raise error
        if was_started and self._failure is not None:
            raise LifespanError(self._failure or "the application could not stop")

    def has_ended(self) -> bool:
        """Whether it was started and runs no longer, be it that its event loop ended."""
        return self._task is not None and self._task.done()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if not self._begun:
            self._begun = True
            return {"type": "lifespan.startup"}
        try:
            await self._stop.wait()
        except asyncio.CancelledError:
            # The loop ends, and nothing else would close what the application has open.
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"].endswith(".failed"):
            self._failure = message.get("message", "")
        elif message["type"] == "lifespan.startup.complete":
            self._started.set()

"""What many calls ask at the same time is asked once.

Only for refusing early: by the time a command decides, the answer may have changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._state import CommandState
from starfish_artifact_registry.db._database import Database

__all__ = ("SharedReads",)

_MAX_CALLS = 256
"""Calls that share a query."""


class SharedReads:
    """Looks packages and paths up for all calls that wait, in one connection."""

    def __init__(
        self, database: Database, new_state: Callable[[AsyncConnection], CommandState]
    ) -> None:
        self._database = database
        self._new_state = new_state
        self._waiting: dict[asyncio.Future[CommandState], tuple[UUID, str]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def state_of(self, package_id: UUID, relative_path: str) -> CommandState:
        """The registry as it is now; it knows this package and this path without asking again.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        future: asyncio.Future[CommandState] = asyncio.get_running_loop().create_future()
        self._waiting[future] = package_id, relative_path
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        try:
            return await future
        finally:
            self._waiting.pop(future, None)

    async def _read(self) -> None:
        while self._waiting:
            calls = dict(list(self._waiting.items())[:_MAX_CALLS])
            for future in calls:
                del self._waiting[future]
            try:
                state = await self._look_up(calls.values())
            except asyncio.CancelledError:
                for future in (*calls, *self._waiting):
                    future.cancel()
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the callers get it
                for future in _open(calls):
                    future.set_exception(error)
            else:
                for future in _open(calls):
                    future.set_result(state)

    async def _look_up(self, paths: Collection[tuple[UUID, str]]) -> CommandState:
        async def look(connection: AsyncConnection) -> CommandState:
            state = self._new_state(connection)
            await state.load({package_id for package_id, _ in paths}, set(paths))
            return state

        return await self._database.look(look)


def _open(futures: Iterable[asyncio.Future[CommandState]]) -> list[asyncio.Future[CommandState]]:
    return [future for future in futures if not future.done()]

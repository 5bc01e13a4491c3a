"""What the calls of a registry share: the database, the data plane and the group commit."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from starfish_artifact_registry.commands._group_commit import GroupCommit
from starfish_artifact_registry.commands._packed_content import PackingDataPlane
from starfish_artifact_registry.commands._shared_reads import SharedReads
from starfish_artifact_registry.commands._state import CommandState, Decide
from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.log._head import LogHead
from starfish_artifact_registry.storage._dataplane import InProcessDataPlane
from starfish_artifact_registry.views._writer import ViewWriter
from starfish_protocol.address import ContentAddress
from starfish_protocol.clock import Clock, SystemClock

__all__ = ("RegistryParts",)

T = TypeVar("T")


class RegistryParts:
    """The parts of one registry."""

    def __init__(
        self,
        engine: AsyncEngine,
        dataplane: InProcessDataPlane,
        view_writer: ViewWriter,
        *,
        clock: Clock | None = None,
        limits: Limits | None = None,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self._database = Database(engine)
        self._limits = limits or Limits()
        self._dataplane = PackingDataPlane(dataplane, self._database, self._limits.pack_bytes)
        self._view_writer = view_writer
        self._clock = clock or SystemClock()
        self._new_id = new_id
        self._head = LogHead(self._database)
        self._early = SharedReads(self._database, self._early_state)
        self._commands = GroupCommit(
            self._database,
            view_writer,
            on_commit=self._head.advance,
            clock=self._clock,
            limits=self._limits,
            new_id=new_id,
        )

    def _early_state(self, connection: AsyncConnection) -> CommandState:
        return CommandState.for_reading(connection, self._view_writer, self._clock.now())

    async def _execute(
        self,
        decide: Decide[T],
        *,
        packages: Collection[UUID] = (),
        paths: Collection[tuple[UUID, str]] = (),
        locations: Collection[UUID] = (),
        packed: ContentAddress | None = None,
    ) -> T:
        """Run a command in the next group commit; what every method that changes anything uses."""
        return await self._commands.execute(
            decide, packages=packages, paths=paths, locations=locations, packed=packed
        )

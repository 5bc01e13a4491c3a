"""Commands in flight share a transaction, and so one wait for the disk.

Rule 1: a command sees the log as if those before it in its group had been committed. Rule 2: a
refused command gets its own error and disturbs no other. Rule 3: nobody is told of success before
the commit; when it fails, every command of the group fails and nothing is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._state import CommandState, Decide, RequestedPath
from starfish_artifact_registry.db._database import Database, is_database_error
from starfish_artifact_registry.errors import (
    CommitUncertainError,
    DatabaseUnavailableError,
)
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.log._clock import LogClock
from starfish_artifact_registry.log._head import notify
from starfish_artifact_registry.log._log import (
    Head,
    digest_at,
)
from starfish_artifact_registry.model._moment import from_ms, to_ms
from starfish_artifact_registry.views._writer import ViewWriter
from starfish_protocol.address import ContentAddress
from starfish_protocol.clock import Clock

__all__ = ("GroupCommit",)

logger = logging.getLogger(__name__)
T = TypeVar("T")
_ASK_AGAIN: Final = 10
_ASK_AGAIN_S: Final = 0.2
"""How often, and after which growing pauses, a lost database is asked: about nine seconds."""


@dataclass(slots=True)
class _Waiting:
    decide: Decide[Any]
    packages: Collection[UUID]
    paths: Collection[RequestedPath]
    locations: Collection[UUID]
    packed: ContentAddress | None
    future: asyncio.Future[Any]


class GroupCommit:
    """Runs commands one after the other, many in one transaction.

    Other processes may do the same to the same database; between them the database decides.
    """

    def __init__(
        self,
        database: Database,
        view_writer: ViewWriter,
        *,
        clock: Clock,
        limits: Limits,
        on_commit: Callable[[int], None] | None = None,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self._database = database
        self._view_writer = view_writer
        self._clock = clock
        self._limits = limits
        self._on_commit = on_commit
        self._new_id = new_id
        self._log_clock = LogClock()
        self._waiting: deque[_Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def execute(
        self,
        decide: Decide[T],
        *,
        packages: Collection[UUID] = (),
        paths: Collection[RequestedPath] = (),
        locations: Collection[UUID] = (),
        packed: ContentAddress | None = None,
    ) -> T:
        """Run a command; when this returns, its events are on disk.

        A call that is cancelled while it waits for its turn does nothing; later it may take place.

        Args:
            decide: the command.
            packages: whose state it asks for, to be read for a whole group at once.
            paths: of packages that it asks for, likewise.
            locations: of content that it refers to, likewise.
            packed: address of small content that it brings, likewise.

        Raises:
            DatabaseUnavailableError: the database failed; nothing is stored.
        """
        waiting = _Waiting(
            *(decide, packages, paths, locations, packed),
            asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(waiting)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        result: T = await waiting.future
        return result

    async def _write(self) -> None:
        # Callers that are ready to run as well join the first group.
        await asyncio.sleep(0)
        while self._waiting:
            group: list[_Waiting] = []
            while self._waiting and len(group) < self._limits.max_batch:
                one = self._waiting.popleft()
                if not one.future.done():
                    group.append(one)
            if not group:
                continue
            try:
                await self._commit(group)
            except asyncio.CancelledError:
                for one in (*group, *self._waiting):
                    one.future.cancel()
                self._waiting.clear()
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the callers get it
                logger.warning("a group of %d commands failed: %s", len(group), error)
                for one in group:
                    _refuse(one, error)

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        accepted: list[tuple[_Waiting, Any]] = []
        refused: list[tuple[_Waiting, Exception]] = []
        head = Head(0, b"")

        async def decide(connection: AsyncConnection) -> None:
            nonlocal head
            head = await self._decide(connection, group, accepted, refused)

        try:
            await self._database.commit(decide)
        except CommitUncertainError:
            if not await self._has_taken_place(head):
                raise
        if self._on_commit is not None:
            self._on_commit(head.sequence)
        # Refusals too are told only now: a caller that hears of one may close the engine at once.
        for one, error in refused:
            _refuse(one, error)
        for one, result in accepted:
            if not one.future.done():
                one.future.set_result(result)

    async def _decide(
        self,
        connection: AsyncConnection,
        group: Sequence[_Waiting],
        accepted: list[tuple[_Waiting, Any]],
        refused: list[tuple[_Waiting, Exception]],
    ) -> Head:
        state = CommandState(
            connection,
            self._view_writer,
            now=from_ms(to_ms(self._clock.now())),
            new_id=self._new_id,
            log_clock=self._log_clock,
        )
        await state.load(
            {key for one in group for key in one.packages},
            {path for one in group for path in one.paths},
            {key for one in group for key in one.locations},
        )
        brought = {one.packed for one in group if one.packed is not None}
        if brought:
            await state.load_packed(brought)
        # The log's own time never goes back, whatever the clock of the machine does.
        if state.newest is not None:
            state.now = max(state.now, state.newest)
        before = state.head
        for one in group:
            try:
                decision = await one.decide(state)
                state.record(decision.events, decision.packed)
            except Exception as error:
                if is_database_error(error):
                    raise  # the transaction is lost, for all of them
                refused.append((one, error))
            else:
                accepted.append((one, decision.result))
        await state.flush()
        if state.head.sequence > before.sequence:
            await notify(connection, state.head.sequence)
        return state.head

    async def _has_taken_place(self, head: Head) -> bool:
        """Ask the database what became of a commit that did not answer.

        Raises:
            CommitUncertainError: it cannot be asked.
        """
        for attempt in range(_ASK_AGAIN):
            await asyncio.sleep(attempt * _ASK_AGAIN_S)
            try:
                # The lock is free only when that transaction has ended.
                async with self._database.locked() as connection:
                    found = await digest_at(connection, head.sequence)
            except DatabaseUnavailableError as error:
                logger.warning("cannot ask what became of a commit: %s", error)
            else:
                if found == head.event_digest:
                    return True
                raise DatabaseUnavailableError("the commit failed and nothing was stored")
        return False


def _refuse(waiting: _Waiting, error: Exception) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)

"""Commands in flight share a transaction, and so one wait for the disk.

Rule 1: a command sees the log as if those before it in its group had been committed. Rule 2: a
refused command gets its own error and disturbs no other. Rule 3: nobody is told of success before
the commit; when it fails, every command of the group fails and nothing is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any, Final, Generic, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    Text,
    Uuid,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db.database import Database, is_database_error
from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_packages,
    collected_content,
    events,
    retention_classes,
)
from starfish_artifact_registry.errors import (
    CommitUncertainError,
    DatabaseUnavailableError,
    PackageNotFoundError,
    UnknownRetentionClassError,
)
from starfish_artifact_registry.event_digest import GENESIS_DIGEST
from starfish_artifact_registry.events.catalogue import FileIngested, PackageCreated
from starfish_artifact_registry.events.codec import Event, NewEvent
from starfish_artifact_registry.events.log import (
    Head,
    append_events,
    chain_events,
    digest_at,
)
from starfish_artifact_registry.events.log_head import notify
from starfish_artifact_registry.events.views import ViewWriter
from starfish_artifact_registry.limits import Limits
from starfish_protocol.clock import Clock

__all__ = ("CommandState", "Decide", "Decision", "GroupCommit", "PackageState")

logger = logging.getLogger(__name__)
T = TypeVar("T")
_Path = tuple[UUID, str]
_IDS_OF_ONE_STATEMENT: Final = 1000
"""An import refers to more contents than a statement may have parameters."""
_ASK_AGAIN: Final = 10
_ASK_AGAIN_S: Final = 0.2
"""How often, and after which growing pauses, a lost database is asked: about nine seconds."""


def _kind(name: str) -> ColumnElement[str]:
    return literal_column(f"'{name}'", Text)


_NO_ID: Final = cast(null(), Uuid)
_NO_TEXT: Final = cast(null(), Text)
_NO_NUMBER: Final = cast(null(), events.c.sequence.type)
_NO_DIGEST: Final = cast(null(), events.c.event_digest.type)
_NEWEST: Final = select(func.max(events.c.sequence)).scalar_subquery()
_HEAD: Final[Select[*tuple[Any, ...]]] = select(
    *(_kind("head"), _NO_ID, _NO_TEXT, events.c.sequence, events.c.event_digest)
).where(events.c.sequence == _NEWEST)
_PACKAGE: Final = artifact_packages.c
_FILE: Final = artifact_files.c
_LOCATION: Final = collected_content.c.storage_location_id
_LOOK_UP: Final[dict[str, Select[*tuple[Any, ...]]]] = {
    "packages": select(
        *(_kind("package"), _PACKAGE.package_id),
        *(_PACKAGE.status, _PACKAGE.file_count, _NO_DIGEST),
    ).where(_PACKAGE.package_id.in_(bindparam("packages", expanding=True))),
    "paths": select(
        *(_kind("path"), _FILE.package_id),
        *(_FILE.relative_path, _NO_NUMBER, _NO_DIGEST),
    ).where(tuple_(_FILE.package_id, _FILE.relative_path).in_(bindparam("paths", expanding=True))),
    "locations": select(*(_kind("collected"), _LOCATION, _NO_TEXT, _NO_NUMBER, _NO_DIGEST)).where(
        _LOCATION.in_(bindparam("locations", expanding=True))
    ),
}
"""All that a group of commands asks for has these five columns, to be read by one statement."""


@cache
def _query(*names: str) -> CompoundSelect[*tuple[Any, ...]]:
    return union_all(_HEAD, *(_LOOK_UP[name] for name in names))


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """What a command does."""

    result: T
    """What its caller gets once the events are on disk."""
    events: Sequence[NewEvent] = ()
    """What is appended."""


@dataclass(frozen=True, slots=True)
class PackageState:
    """What most decisions about a package depend on."""

    status: str
    """``created``, ``finalized``, ``expired`` or ``deleted``."""
    file_count: int
    """Files that it has."""


Decide = Callable[["CommandState"], Awaitable[Decision[T]]]
"""A command: reads the state, refuses by an exception, or says what is appended. Never writes."""


class CommandState:
    """The registry as a command finds it: the log is locked, so what it reads stays true."""

    def __init__(
        self,
        connection: AsyncConnection,
        view_writer: ViewWriter,
        *,
        now: datetime,
        new_id: Callable[[], UUID],
    ) -> None:
        self.now = now
        """The time of the append, which new events get unless they bring their own."""
        self.new_id = new_id
        """Makes ids."""
        self.head = Head(0, GENESIS_DIGEST)
        """The end of the log, events of commands before this one included; known after `load`."""
        self._connection = connection
        self._view_writer = view_writer
        self._pending: list[Event] = []
        self._packages: dict[UUID, PackageState | None] = {}
        self._paths: dict[_Path, bool] = {}
        self._collected: dict[UUID, bool] = {}
        self._retention_classes: dict[str, int | None] | None = None

    @classmethod
    def for_reading(
        cls, connection: AsyncConnection, view_writer: ViewWriter, now: datetime
    ) -> CommandState:
        """The registry as it is now, the log not locked: to refuse early what will be refused."""
        return cls(connection, view_writer, now=now, new_id=uuid4)

    async def connection(self) -> AsyncConnection:
        """A connection for reading; rows are up to date with the commands before this one."""
        await self.flush()
        return self._connection

    async def package(self, package_id: UUID) -> PackageState:
        """State of a package.

        Raises:
            PackageNotFoundError: there is none of this id.
        """
        found = await self.find_package(package_id)
        if found is None:
            raise PackageNotFoundError(package_id)
        return found

    async def find_package(self, package_id: UUID) -> PackageState | None:
        """State of a package, ``None`` when there is none of this id."""
        if package_id not in self._packages:
            await self.load(packages=[package_id])
        return self._packages[package_id]

    async def has_path(self, package_id: UUID, relative_path: str) -> bool:
        """Whether a package has a file at this path."""
        path = (package_id, relative_path)
        if path not in self._paths:
            await self.load(paths=[path])
        return self._paths[path]

    async def was_collected(self, storage_location_id: UUID) -> bool:
        """Whether garbage collection ever took, or was about to take, what is there.

        Where it did not, it will not either before this command is done: it needs the log's lock.
        """
        if storage_location_id not in self._collected:
            await self.load(locations=[storage_location_id])
        return self._collected[storage_location_id]

    async def retention_days(self, retention_class: str) -> int | None:
        """How long a class keeps a package, in days; ``None`` is for ever.

        Raises:
            UnknownRetentionClassError: there is no such class.
        """
        if self._retention_classes is None:
            columns = select(retention_classes.c.name, retention_classes.c.duration_days)
            rows = await self._connection.execute(columns)
            self._retention_classes = {row.name: row.duration_days for row in rows}
        if retention_class not in self._retention_classes:
            known = tuple(sorted(self._retention_classes))
            raise UnknownRetentionClassError(retention_class, known)
        return self._retention_classes[retention_class]

    async def load(
        self,
        packages: Collection[UUID] = (),
        paths: Collection[_Path] = (),
        locations: Collection[UUID] = (),
    ) -> None:
        """Read what the calls that follow ask for, and whatever the log's end is, at once."""
        await self.flush()
        wanted = list(locations)
        await self._load(list(packages), list(paths), wanted[:_IDS_OF_ONE_STATEMENT])
        for start in range(_IDS_OF_ONE_STATEMENT, len(wanted), _IDS_OF_ONE_STATEMENT):
            await self._load([], [], wanted[start : start + _IDS_OF_ONE_STATEMENT])

    async def _load(self, packages: list[UUID], paths: list[_Path], locations: list[UUID]) -> None:
        wanted = {"packages": packages, "paths": paths, "locations": locations}
        asked = {name: ids for name, ids in wanted.items() if ids}
        query = _query(*asked)
        self._packages |= dict.fromkeys(packages)
        self._paths |= dict.fromkeys(paths, False)
        self._collected |= dict.fromkeys(locations, False)
        self.head = Head(0, GENESIS_DIGEST)
        for kind, key, value, number, digest in await self._connection.execute(query, asked):
            match kind:
                case "head":
                    self.head = Head(number, digest)
                case "package":
                    self._packages[key] = PackageState(value, number)
                case "path":
                    self._paths[key, value] = True
                case _:
                    self._collected[key] = True

    def record(self, new: Sequence[NewEvent]) -> None:
        """Give the events of a decision their places; stored by the next `flush`."""
        chained = chain_events(self.head, new, now=self.now, new_id=self.new_id)
        for event in new:
            self._follow(event)
        if chained:
            self._pending += chained
            self.head = Head(chained[-1].sequence, chained[-1].event_digest)

    async def flush(self) -> None:
        """Store what was decided so far, and bring the rows up to it."""
        if self._pending:
            pending, self._pending = self._pending, []
            await append_events(self._connection, pending)
            await self._view_writer.apply(self._connection, pending)

    def _follow(self, event: NewEvent) -> None:
        """Keep what was read already in step, so that the usual commands need no `flush`."""
        match event.payload:
            case PackageCreated():
                self._packages[event.package_id] = PackageState("created", 0)
            case FileIngested(relative_path=relative_path):
                package = self._packages.pop(event.package_id, None)
                if package is not None:
                    package = replace(package, file_count=package.file_count + 1)
                    self._packages[event.package_id] = package
                self._paths[event.package_id, relative_path] = True
            case _:
                self._packages.pop(event.package_id, None)


@dataclass(slots=True)
class _Waiting:
    decide: Decide[Any]
    packages: Collection[UUID]
    paths: Collection[_Path]
    locations: Collection[UUID]
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
        self._waiting: deque[_Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def execute(
        self,
        decide: Decide[T],
        *,
        packages: Collection[UUID] = (),
        paths: Collection[_Path] = (),
        locations: Collection[UUID] = (),
    ) -> T:
        """Run a command; when this returns, its events are on disk.

        A call that is cancelled while it waits for its turn does nothing; later it may take place.

        Args:
            decide: the command.
            packages: whose state it asks for, to be read for a whole group at once.
            paths: of packages that it asks for, likewise.
            locations: of content that it refers to, likewise.

        Raises:
            DatabaseUnavailableError: the database failed; nothing is stored.
        """
        waiting = _Waiting(
            decide, packages, paths, locations, asyncio.get_running_loop().create_future()
        )
        self._waiting.append(waiting)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        result: T = await waiting.future
        return result

    async def _write(self) -> None:
        # Whoever is ready to run as well joins the first group.
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
        try:
            async with self._database.write() as connection:
                head = await self._decide(connection, group, accepted, refused)
        except CommitUncertainError:
            if not await self._has_taken_place(head):
                raise
        if self._on_commit is not None:
            self._on_commit(head.sequence)
        # Refusals too are told only now: whoever hears of one may close the engine at once.
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
            connection, self._view_writer, now=self._clock.now(), new_id=self._new_id
        )
        await state.load(
            {key for one in group for key in one.packages},
            {path for one in group for path in one.paths},
            {key for one in group for key in one.locations},
        )
        before = state.head
        for one in group:
            try:
                decision = await one.decide(state)
                state.record(decision.events)
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

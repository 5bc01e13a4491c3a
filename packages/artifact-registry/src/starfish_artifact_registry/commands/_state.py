"""The registry as a command finds it, and the events that a command decides upon."""

from __future__ import annotations

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

from starfish_artifact_registry.commands._packed_content import (
    PackedContent,
    known_bytes,
    store_packed,
)
from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_packages,
    collected_content,
    events,
    retention_classes,
)
from starfish_artifact_registry.errors import (
    PackageNotFoundError,
    UnknownRetentionClassError,
)
from starfish_artifact_registry.log._clock import LogClock
from starfish_artifact_registry.log._histories import read_history
from starfish_artifact_registry.log._log import (
    Head,
    append_events,
    chain_events,
)
from starfish_artifact_registry.model._catalogue import (
    FileIngested,
    PackageCreated,
    PackageDeleted,
    PackageExpired,
    PackageFinalized,
)
from starfish_artifact_registry.model._event_codec import Event, NewEvent
from starfish_artifact_registry.model._event_digest import GENESIS_DIGEST
from starfish_artifact_registry.model._history import PackageHistory
from starfish_artifact_registry.views._files import FileRecord, find_file
from starfish_artifact_registry.views._writer import ViewWriter
from starfish_protocol.address import ContentAddress

__all__ = ("CommandState", "Decide", "Decision", "PackageState", "RequestedPath")

T = TypeVar("T")
RequestedPath = tuple[UUID, str]
"""A package and a path in it."""
_IDS_OF_ONE_STATEMENT: Final = 1000
"""An import refers to more contents than a statement may have parameters."""


_STATUS_AFTER: Final = {
    PackageCreated.event_type: "created",
    PackageFinalized.event_type: "finalized",
    PackageExpired.event_type: "expired",
    PackageDeleted.event_type: "deleted",
}


def _kind(name: str) -> ColumnElement[str]:
    return literal_column(f"'{name}'", Text)


_NO_ID: Final = cast(null(), Uuid)
_NO_TEXT: Final = cast(null(), Text)
_NO_NUMBER: Final = cast(null(), events.c.sequence.type)
_NO_DIGEST: Final = cast(null(), events.c.event_digest.type)
_NEWEST: Final = select(func.max(events.c.sequence)).scalar_subquery()
_NO_MOMENT: Final = cast(null(), events.c.created_at.type)
_HEAD: Final[Select[*tuple[Any, ...]]] = select(
    *(_kind("head"), _NO_ID, _NO_TEXT, events.c.sequence, events.c.event_digest),
    *(_NO_ID, events.c.created_at),
).where(events.c.sequence == _NEWEST)
_PACKAGE: Final = artifact_packages.c
_EVENT: Final = events.c
_FILE: Final = artifact_files.c
_LOCATION: Final = collected_content.c.storage_location_id
_LOOK_UP: Final[dict[str, Select[*tuple[Any, ...]]]] = {
    # The status is the newest of these events; the count is a cap only, so a table may tell it.
    "packages": select(
        *(_kind("fact"), _EVENT.package_id, _EVENT.event_type, _EVENT.sequence, _NO_DIGEST),
        *(_NO_ID, _NO_MOMENT),
    ).where(
        _EVENT.package_id.in_(bindparam("packages", expanding=True)),
        _EVENT.event_type != FileIngested.event_type,
        _EVENT.event_type.in_(list(_STATUS_AFTER)),
    ),
    "counts": select(
        *(_kind("count"), _PACKAGE.id, _NO_TEXT, _PACKAGE.file_count, _NO_DIGEST),
        *(_NO_ID, _NO_MOMENT),
    ).where(_PACKAGE.id.in_(bindparam("counts", expanding=True))),
    "paths": select(
        *(_kind("path"), _FILE.package_id, _FILE.relative_path, _NO_NUMBER, _NO_DIGEST),
        *(_FILE.id, _NO_MOMENT),
    ).where(tuple_(_FILE.package_id, _FILE.relative_path).in_(bindparam("paths", expanding=True))),
    "locations": select(
        *(_kind("collected"), _LOCATION, _NO_TEXT, _NO_NUMBER, _NO_DIGEST, _NO_ID, _NO_MOMENT)
    ).where(_LOCATION.in_(bindparam("locations", expanding=True))),
}
"""All that a group of commands asks for has these seven columns, to be read by one statement."""


@cache
def _query(*names: str) -> CompoundSelect[*tuple[Any, ...]]:
    return union_all(_HEAD, *(_LOOK_UP[name] for name in names))


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """What a command does."""

    result: T
    """What its caller gets once the events are on disk."""
    events: Sequence[NewEvent] = ()
    """The events to append."""
    packed: PackedContent | None = None
    """Small content to store with them."""


@dataclass(frozen=True, slots=True)
class PackageState:
    """What most decisions about a package depend on."""

    status: str
    """``created``, ``finalized``, ``expired`` or ``deleted``."""
    file_count: int
    """Files that it has."""


Decide = Callable[["CommandState"], Awaitable[Decision[T]]]
"""A command: reads the state, refuses by an exception, or gives the events to append. Never writes."""


class CommandState:
    """The registry as a command finds it: the log is locked, so what it reads stays true."""

    def __init__(
        self,
        connection: AsyncConnection,
        view_writer: ViewWriter,
        *,
        now: datetime,
        new_id: Callable[[], UUID],
        log_clock: LogClock | None = None,
    ) -> None:
        self.now = now
        """The time of the append, which new events get unless they bring their own."""
        self.new_id = new_id
        """Makes ids."""
        self.newest: datetime | None = None
        """The time of the newest event; known after `load`."""
        self.head = Head(0, GENESIS_DIGEST)
        """The end of the log, events of commands before this one included; known after `load`."""
        self._connection = connection
        self._log_clock = log_clock or LogClock()
        self._view_writer = view_writer
        self._pending: list[Event] = []
        self._packages: dict[UUID, PackageState | None] = {}
        self._paths: dict[RequestedPath, UUID | None] = {}
        self._histories: dict[UUID, PackageHistory] = {}
        self._collected: dict[UUID, bool] = {}
        self._packed: dict[ContentAddress, bytes | None] = {}
        self._new_packed: dict[ContentAddress, PackedContent] = {}
        self._damaged_packed: dict[ContentAddress, PackedContent] = {}
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

    async def history(
        self, package_id: UUID, known: PackageHistory | None = None
    ) -> PackageHistory:
        """The fold of a package's events.

        Args:
            package_id: the package.
            known: an earlier state of it, so that only later events are read.

        Raises:
            IllegalHistoryError: an event must not follow those before it.
            PackageNotFoundError: there is no such package.
        """
        known = self._histories.get(package_id, known)
        history = await read_history(await self.connection(), package_id, known)
        self._histories[package_id] = history
        return history

    async def confirmed_now(self) -> datetime:
        """The time that retention may trust: see `LogClock`."""
        return await self._log_clock.confirmed(self._connection, self.now)

    async def has_path(self, package_id: UUID, relative_path: str) -> bool:
        """Whether a package has a file at this path."""
        path = (package_id, relative_path)
        if path not in self._paths:
            await self.load(paths=[path])
        return self._paths[path] is not None

    def known_file(self, package_id: UUID, relative_path: str) -> UUID | None:
        """The id of the file at a path that was asked for before."""
        return self._paths.get((package_id, relative_path))

    async def file_at(self, package_id: UUID, relative_path: str) -> FileRecord | None:
        """The file of a package at this path, ``None`` when there is none.

        Raises:
            ViewsDifferError: the row of the file is not the one of its event.
        """
        if not await self.has_path(package_id, relative_path):
            return None
        file_id = self._paths[package_id, relative_path]
        assert file_id is not None  # noqa: S101  for the type checker
        return await find_file(await self.connection(), file_id)

    async def was_collected(self, storage_location_id: UUID) -> bool:
        """Whether garbage collection ever took, or was about to take, the content there.

        Where it did not, it will not either before this command is done: it needs the log's lock.
        """
        if storage_location_id not in self._collected:
            await self.load(locations=[storage_location_id])
        return self._collected[storage_location_id]

    async def compared(self, content: PackedContent) -> PackedContent:
        """Small content, compared with the copy that the database has.

        ``was_present`` says that the copy is whole, ``healed`` that these bytes will replace it.
        """
        if content.address not in self._packed:
            await self.load_packed([content.address])
        known = self._packed[content.address]
        is_whole = known == content.data
        return replace(content, was_present=is_whole, healed=known is not None and not is_whole)

    async def load_packed(self, addresses: Collection[ContentAddress]) -> None:
        """Read the copies that `compared` asks for at once."""
        found = await known_bytes(self._connection, addresses)
        self._packed |= {address: found.get(address) for address in addresses}

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
        paths: Collection[RequestedPath] = (),
        locations: Collection[UUID] = (),
    ) -> None:
        """Read what the calls that follow ask for, and whatever the log's end is, at once."""
        await self.flush()
        wanted = list(locations)
        await self._load(list(packages), list(paths), wanted[:_IDS_OF_ONE_STATEMENT])
        for start in range(_IDS_OF_ONE_STATEMENT, len(wanted), _IDS_OF_ONE_STATEMENT):
            await self._load([], [], wanted[start : start + _IDS_OF_ONE_STATEMENT])

    async def _load(
        self, packages: list[UUID], paths: list[RequestedPath], locations: list[UUID]
    ) -> None:
        wanted: dict[str, Sequence[object]] = {
            "packages": packages,
            "counts": packages,
            "paths": paths,
            "locations": locations,
        }
        asked = {name: ids for name, ids in wanted.items() if ids}
        query = _query(*asked)
        self._packages |= dict.fromkeys(packages)
        self._paths |= dict.fromkeys(paths)
        statuses: dict[UUID, tuple[int, str]] = {}
        counts: dict[UUID, int] = {}
        self._collected |= dict.fromkeys(locations, False)
        self.head = Head(0, GENESIS_DIGEST)
        rows = await self._connection.execute(query, asked)
        for kind, key, value, number, digest, other, moment in rows:
            match kind:
                case "head":
                    self.head = Head(number, digest)
                    self.newest = moment
                case "fact":
                    statuses[key] = max(statuses.get(key, (0, "")), (number, _STATUS_AFTER[value]))
                case "count":
                    counts[key] = number
                case "path":
                    self._paths[key, value] = other
                case _:
                    self._collected[key] = True
        for key, (_, status) in statuses.items():
            self._packages[key] = PackageState(status, counts.get(key, 0))

    def record(self, new: Sequence[NewEvent], packed: PackedContent | None = None) -> None:
        """Give the events of a decision their places; stored by the next `flush`."""
        if packed is not None and not packed.was_present:
            pending = self._damaged_packed if packed.healed else self._new_packed
            pending[packed.address] = packed
            self._packed[packed.address] = packed.data
        chained = chain_events(self.head, new, now=self.now, new_id=self.new_id)
        for event in new:
            self._follow(event)
        if chained:
            self._pending += chained
            self.head = Head(chained[-1].sequence, chained[-1].event_digest)

    async def flush(self) -> None:
        """Store the decisions so far, and bring the rows up to it."""
        if self._new_packed or self._damaged_packed:
            new, damaged = list(self._new_packed.values()), list(self._damaged_packed.values())
            self._new_packed, self._damaged_packed = {}, {}
            await store_packed(self._connection, new, damaged)
        if self._pending:
            pending, self._pending = self._pending, []
            await append_events(self._connection, pending)
            await self._view_writer.apply(self._connection, pending)

    def _follow(self, event: NewEvent) -> None:
        """Keep the state that was read in step, so that the usual commands need no `flush`."""
        match event.payload:
            case PackageCreated():
                self._packages[event.package_id] = PackageState("created", 0)
            case FileIngested(relative_path=relative_path, file_id=file_id):
                package = self._packages.pop(event.package_id, None)
                if package is not None:
                    package = replace(package, file_count=package.file_count + 1)
                    self._packages[event.package_id] = package
                self._paths[event.package_id, relative_path] = file_id
            case _:
                self._packages.pop(event.package_id, None)

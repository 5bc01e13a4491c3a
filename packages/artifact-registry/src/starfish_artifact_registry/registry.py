"""`Registry`: what an application holds. One method for each command and each query."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from starfish_artifact_registry import files, fixity, packages, query, retention
from starfish_artifact_registry import manifest as manifests
from starfish_artifact_registry._proof_export import export_proof
from starfish_artifact_registry.checkpoint import Checkpoint, sign_checkpoint
from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.database import Database
from starfish_artifact_registry.db.schema import artifact_files, artifact_packages
from starfish_artifact_registry.errors import (
    DuplicateRelativePathError,
    FileNotFoundInRegistryError,
    IllegalPackageStateError,
    InvalidRelativePathError,
    InvalidValueError,
    PackageNotFoundError,
    RetentionError,
)
from starfish_artifact_registry.events.catalogue import (
    check_media_type,
    check_text,
    storage_location_id,
)
from starfish_artifact_registry.events.codec import Event
from starfish_artifact_registry.events.group_commit import CommandState, Decide, GroupCommit
from starfish_artifact_registry.events.hash_chain import LogReport, verify_log
from starfish_artifact_registry.events.log import head_of_log
from starfish_artifact_registry.events.log_head import LogHead
from starfish_artifact_registry.events.shared_reads import SharedReads
from starfish_artifact_registry.events.source import LogSource
from starfish_artifact_registry.events.tail import POLL_INTERVAL_S, tail
from starfish_artifact_registry.events.views import ViewWriter
from starfish_artifact_registry.files import FileRecord
from starfish_artifact_registry.fixity import FixityProgress, FixityReport, FixitySummary
from starfish_artifact_registry.garbage import DEFAULT_GRACE, GarbageReport, collect_garbage
from starfish_artifact_registry.interchange.transfer import (
    ExportFormat,
    TransferProgress,
    export_package,
    import_package,
)
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.package_metadata import check_metadata
from starfish_artifact_registry.query import PackageFilter, PackageRecord
from starfish_artifact_registry.relative_path import check_relative_path
from starfish_protocol.address import ContentAddress
from starfish_protocol.clock import Clock, SystemClock

__all__ = (
    "DuplicateRelativePathError",
    "IllegalPackageStateError",
    "InvalidRelativePathError",
    "PackageNotFoundError",
    "Registry",
)

T = TypeVar("T")


class Registry:
    """Packages of files as evidence, over one database and one data plane.

    It makes no tables and opens nothing: the engine and the backend belong to the caller, who also
    closes them. Several registries, of several processes too, may share them.

    Args:
        engine: over aiosqlite or asyncpg; see `starfish_artifact_registry.db.engine`.
        dataplane: where the bytes go.
        view_writer: derives the tables from the events, in the transaction of each append.
        clock: gives events their time.
        limits: what is accepted.
        new_id: makes the ids of packages, files and events.

    Raises:
        ValueError: an engine of another database.
    """

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
        self._dataplane = dataplane
        self._view_writer = view_writer
        self._clock = clock or SystemClock()
        self._limits = limits or Limits()
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

    async def create_package(
        self,
        *,
        name: str,
        producer: str,
        subject: str,
        retention_class: str,
        actor: str,
        metadata: dict[str, Any] | None = None,
    ) -> UUID:
        """Create a package, empty and with status ``created``; on disk when this returns.

        Args:
            name: what its producer calls it; names need not be unique.
            producer: who or what makes the files.
            subject: what they are about.
            retention_class: how long it must be kept: a name from the table ``retention_classes``.
            actor: who asks for it; stands in the event.
            metadata: a JSON object, whatever else there is to say.

        Raises:
            InvalidValueError: a text or the metadata cannot be kept; the error names it.
            UnknownRetentionClassError: there is no such class; also a ``ValueError``.
        """
        check_text("retention_class", retention_class)
        check_text("actor", actor)
        command = packages.create_package(
            name=name,
            producer=producer,
            subject=subject,
            retention_class=retention_class,
            actor=actor,
            metadata=check_metadata({} if metadata is None else metadata),
        )
        return await self._execute(command)

    async def ingest_file(
        self,
        package_id: UUID,
        *,
        relative_path: str,
        media_type: str,
        stream: AsyncIterator[bytes],
        actor: str,
    ) -> UUID:
        """Add a file to a package; its bytes and its event are on disk when this returns.

        What can be refused is refused before the stream is read. When two calls race for a path,
        one wins and the other finds out after its stream; its bytes are left to garbage collection.

        Args:
            package_id: of a package with status ``created``.
            relative_path: where it goes; `check_relative_path` says what is legal.
            media_type: what it is, such as ``text/plain; charset=utf-8``.
            stream: its bytes, in chunks of any size.
            actor: who adds it.

        Returns:
            The id of the file.

        Raises:
            DuplicateRelativePathError: the package has a file at this path.
            IllegalPackageStateError: the package takes no files any more.
            InvalidRelativePathError: the path is not legal; also a ``ValueError``.
            InvalidValueError: another value is not legal, or the package is full.
            PackageNotFoundError: there is no such package.
            StorageUnavailableError: the bytes could not be stored.
        """
        check_relative_path(relative_path)
        check_media_type(media_type)
        check_text("actor", actor)
        early = await self._early.state_of(package_id, relative_path)
        await packages.check_file(
            early, package_id, relative_path, max_files=self._limits.max_files
        )
        stored = await self._dataplane.put(stream)
        command = packages.ingest_file(
            package_id,
            relative_path=relative_path,
            media_type=media_type,
            stored=stored,
            dataplane=self._dataplane,
            actor=actor,
            max_files=self._limits.max_files,
        )
        return await self._execute(
            command,
            packages=[package_id],
            paths=[(package_id, relative_path)],
            locations=[storage_location_id(self._dataplane.backend_id, stored.address)],
        )

    async def finalize_package(self, package_id: UUID, *, actor: str) -> ContentAddress:
        """Close a package: nothing is added any more, and its manifest stands in the log.

        Returns:
            The address of the manifest: BLAKE3 of exactly the bytes of `get_manifest_bytes`.

        Raises:
            IllegalPackageStateError: it is finalized already, expired or deleted.
            InvalidValueError: ``actor`` is not legal.
            PackageNotFoundError: there is no such package.
        """
        check_text("actor", actor)
        command = packages.finalize_package(package_id, actor=actor)
        return await self._execute(command, packages=[package_id])

    async def get_manifest_bytes(
        self,
        package_id: UUID,
        format: Literal["cbor", "json"] = "cbor",  # noqa: A002
    ) -> bytes:
        """The manifest of a finalized package, also when the package was deleted since.

        Args:
            package_id: of the package.
            format: ``cbor`` for the bytes that the address is of, ``json`` for the same content
                by RFC 8785.

        Raises:
            IllegalPackageStateError: it is not finalized yet.
            InvalidValueError: another format.
            LogDamagedError: the log does not hold what the address promises.
            PackageNotFoundError: there is no such package.
        """
        if format not in {"cbor", "json"}:
            raise InvalidValueError("format", format, "'cbor' or 'json'")
        async with self._database.read() as connection:
            data = await packages.read_manifest_bytes(connection, package_id)
        return data if format == "cbor" else manifests.to_json(manifests.decode(data))

    async def get_file(
        self, file_id: UUID, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of a file, or those from ``start`` up to but without ``end``.

        Raises:
            ContentNotFoundError: the backend lost the content; raised by the first chunk.
            FileNotFoundInRegistryError: there is no such file, or its package was deleted.
            StorageUnavailableError: the backend does not answer.
        """
        wanted = (
            select(artifact_files.c.content_address)
            .join(artifact_packages)
            .where(artifact_files.c.file_id == file_id, artifact_packages.c.status != "deleted")
        )
        async with self._database.read() as connection:
            address: str | None = (await connection.execute(wanted)).scalar()
        if address is None:
            raise FileNotFoundInRegistryError(file_id)
        return self._dataplane.read(ContentAddress.parse(address), start, end)

    async def find_file(self, file_id: UUID) -> FileRecord:
        """What is known of a file.

        Raises:
            FileNotFoundInRegistryError: there is no such file, or its package was deleted.
        """
        async with self._database.read() as connection:
            return await files.find_file(connection, file_id)

    async def read_verified(self, file: FileRecord) -> AsyncGenerator[bytes]:
        """All bytes of a file; the last chunk comes only if they are those that were ingested.

        Raises:
            ContentDamagedError: they are others; raised in place of the last chunk.
            ContentNotFoundError: the backend lost them; raised by the first chunk.
            FileNotFoundInRegistryError: the package was deleted since.
            StorageUnavailableError: the backend does not answer.
        """
        chunks = await self.get_file(file.file_id)
        return files.verified(chunks, file, self._dataplane.backend_id)

    async def list_files(
        self, package_id: UUID, *, after: str | None = None, limit: int = 1000
    ) -> list[FileRecord]:
        """A page of the files of a package, by path; of a deleted package there are none.

        Args:
            package_id: of the package.
            after: the last path of the page before.
            limit: most files of a page.
        """
        async with self._database.read() as connection:
            return await files.list_files(connection, package_id, after=after, limit=limit)

    def tail_events(
        self, since_sequence: int = 0, poll_interval_seconds: float = POLL_INTERVAL_S
    ) -> AsyncGenerator[Event]:
        """Every event above ``since_sequence``, in order, and then each as it is committed.

        Does not end. To go on later, begin after the last event that was dealt with. PostgreSQL
        and commits of this registry wake the reader; on SQLite other processes are noticed by
        asking. A slow reader holds nothing up and nothing in memory.

        Args:
            since_sequence: 0 for all events.
            poll_interval_seconds: how often SQLite is asked.

        Raises:
            DatabaseUnavailableError: the database is gone.
            InvalidValueError: an argument is not legal.
        """
        return tail(self._database, self._head, since_sequence, poll_interval_seconds)

    @property
    def event_source(self) -> LogSource:
        """The log as an event source of `starfish_protocol.events`."""
        return LogSource(self._database, self._head)

    async def verify_log(
        self, *, checkpoints: Collection[Checkpoint] = (), trusted_keys: Collection[str] = ()
    ) -> LogReport:
        """Walk the chain of digests from the first event to the last; memory is bounded.

        Args:
            checkpoints: of this log, kept elsewhere: a log that was rewritten or cut since does not
                agree with them.
            trusted_keys: with any, each checkpoint must be signed by one of them.

        Raises:
            CheckpointError: nobody trusted signed a checkpoint.
            DatabaseUnavailableError: the database does not answer.
        """
        if trusted_keys:
            for checkpoint in checkpoints:
                checkpoint.verify(trusted_keys)
        page_size = self._limits.replay_page
        return await verify_log(self._database, self._view_writer, page_size, checkpoints)

    async def sign_checkpoint(self, private_key: str) -> Checkpoint:
        """Sign what the end of the log is; keep the result where no writer of the database can.

        The log is not verified here. Needs the extra ``signing``.

        Args:
            private_key: Ed25519 private key (RFC 8032 seed), 64 lowercase hex digits.

        Raises:
            CheckpointError: the log is empty.
            DatabaseUnavailableError: the database does not answer.
            ImportError: the extra is not installed.
            ValueError: the key is malformed.
        """
        async with self._database.read() as connection:
            head = await head_of_log(connection)
        return sign_checkpoint(
            head.sequence,
            head.event_digest,
            created_at=self._clock.now(),
            private_key=private_key,
        )

    async def export_proof(
        self, package_id: UUID, *, checkpoint: Checkpoint | None = None
    ) -> bytes:
        """A file that proves what a finalized package holds, without the registry.

        `starfish_artifact_registry.proof.verify_proof` checks it; that module describes it.

        Args:
            package_id: of the package; it may have been deleted since.
            checkpoint: a signed one, that the proof then reaches to and holds; without one it
                reaches to the end of the log.

        Raises:
            IllegalPackageStateError: the package is not finalized.
            LogDamagedError: an event on the way is not as it was written.
            PackageNotFoundError: there is no such package.
            ProofError: the checkpoint is of another log, or older than the manifest.
        """
        async with self._database.read() as connection:
            return await export_proof(
                connection,
                package_id,
                checkpoint=checkpoint,
                page_size=self._limits.replay_page,
            )

    async def verify_package(
        self,
        package_id: UUID,
        *,
        actor: str = "fixity",
        on_progress: Callable[[FixityProgress], None] | None = None,
    ) -> FixityReport:
        """Read all bytes of a package again and compare; the finding is an event.

        Args:
            package_id: of the package.
            actor: who asks for it; stands in the event.
            on_progress: called after each file.

        Raises:
            IllegalPackageStateError: it was deleted.
            LogDamagedError: the log does not hold its manifest any more.
            PackageNotFoundError: there is no such package.
            StorageUnavailableError: the backend does not answer, which says nothing about the bytes;
                there is no event.
        """
        check_text("actor", actor)
        meter = fixity.Meter(on_progress)
        return await self._verify_package(package_id, actor, meter)

    async def verify_all(
        self,
        *,
        actor: str = "fixity",
        on_progress: Callable[[FixityProgress], None] | None = None,
    ) -> FixitySummary:
        """The same for every package that is not deleted, one after the other.

        Raises:
            LogDamagedError: the log does not hold a manifest any more.
            StorageUnavailableError: the backend does not answer; packages before have their events.
        """
        check_text("actor", actor)
        meter = fixity.Meter(on_progress)
        damaged: list[FixityReport] = []
        files = size = 0
        async for package_id in fixity.live_packages(self._database):
            try:
                report = await self._verify_package(package_id, actor, meter)
            except IllegalPackageStateError:
                continue  # deleted meanwhile
            files += report.files_checked
            size += report.bytes_checked
            if not report.ok:
                damaged.append(report)
        return FixitySummary(meter.packages, files, size, tuple(damaged))

    async def _verify_package(
        self, package_id: UUID, actor: str, meter: fixity.Meter
    ) -> FixityReport:
        report, checked = await fixity.check_package(
            self._database, self._dataplane, package_id, meter.file_done
        )
        command = fixity.record_check(package_id, checked, actor=actor)
        await self._execute(command, packages=[package_id])
        meter.package_done()
        return report

    async def get_package(self, package_id: UUID) -> PackageRecord:
        """A package as it is now, deleted ones included.

        Raises:
            PackageNotFoundError: there is no such package.
        """
        async with self._database.read() as connection:
            return await query.find_package(connection, package_id)

    async def list_packages(
        self,
        *,
        name: str | None = None,
        producer: str | None = None,
        subject: str | None = None,
        status: str | None = None,
        retention_class: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        after: UUID | None = None,
        limit: int = 100,
    ) -> list[PackageRecord]:
        """A page of the packages for which every given member is true, oldest first.

        Args:
            name: exactly this name; likewise ``producer``, ``subject``, ``retention_class``.
            producer: see ``name``.
            subject: see ``name``.
            status: ``created``, ``finalized``, ``expired`` or ``deleted``; without it all of them.
            retention_class: see ``name``.
            created_after: created at this moment or later.
            created_before: created before this moment.
            metadata: members that its metadata has, with equal values.
            after: id of the last package of the page before.
            limit: most packages of the page, up to `MAX_PAGE`.

        Raises:
            InvalidQueryError: an argument is not legal.
        """
        wanted = PackageFilter(
            name=name,
            producer=producer,
            subject=subject,
            status=status,
            retention_class=retention_class,
            created_after=created_after,
            created_before=created_before,
            metadata=metadata,
        )
        async with self._database.read() as connection:
            return await query.list_packages(connection, wanted, after=after, limit=limit)

    async def hold_package(self, package_id: UUID, *, reason: str, actor: str) -> UUID:
        """Place a hold: until it is released the package cannot expire or be deleted.

        A package may have several holds; each must be released.

        Returns:
            The id of the hold.

        Raises:
            IllegalPackageStateError: the package was deleted.
            InvalidValueError: a text is not legal.
            PackageNotFoundError: there is no such package.
        """
        check_text("reason", reason)
        check_text("actor", actor)
        command = retention.hold_package(package_id, reason=reason, actor=actor)
        return await self._execute(command, packages=[package_id])

    async def release_hold(
        self, package_id: UUID, hold_id: UUID, *, reason: str, actor: str
    ) -> None:
        """Lift a hold.

        Raises:
            HoldNotFoundError: the package has no such hold, or it was released already.
            InvalidValueError: a text is not legal.
            PackageNotFoundError: there is no such package.
        """
        check_text("reason", reason)
        check_text("actor", actor)
        command = retention.release_hold(package_id, hold_id, reason=reason, actor=actor)
        await self._execute(command, packages=[package_id])

    async def expire_package(self, package_id: UUID, *, actor: str) -> None:
        """Say in the log that a package is past its retention date; its files stay readable.

        Raises:
            IllegalPackageStateError: it is expired or deleted already.
            InvalidValueError: ``actor`` is not legal.
            PackageHeldError: a hold is in force.
            PackageNotFoundError: there is no such package.
            RetentionPeriodError: its date has not come; the error names it.
        """
        check_text("actor", actor)
        command = retention.expire_package(package_id, actor=actor)
        await self._execute(command, packages=[package_id])

    async def expire_due(self, *, actor: str, limit: int = 1000) -> list[UUID]:
        """Expire packages that are past their date and not held, those longest past first.

        Returns:
            Which ones, at most ``limit``; fewer when it is done.

        Raises:
            InvalidValueError: ``actor`` is not legal.
        """
        check_text("actor", actor)
        async with self._database.read() as connection:
            due = await retention.past_retention(connection, self._clock.now(), limit=limit)
        expired: list[UUID] = []
        for package_id in due:
            # Somebody else may have held, expired or deleted it meanwhile.
            with contextlib.suppress(RetentionError, IllegalPackageStateError):
                await self.expire_package(package_id, actor=actor)
                expired.append(package_id)
        return expired

    async def delete_package(self, package_id: UUID, *, reason: str, actor: str) -> None:
        """Make a package a tombstone: its files cannot be read any more, its history stays.

        The bytes go with `collect_garbage`, unless another package refers to them.

        Raises:
            IllegalPackageStateError: it is deleted already.
            InvalidValueError: a text is not legal.
            PackageHeldError: a hold is in force.
            PackageNotFoundError: there is no such package.
            RetentionPeriodError: its date has not come; the error names it.
        """
        check_text("reason", reason)
        check_text("actor", actor)
        command = retention.delete_package(package_id, reason=reason, actor=actor)
        await self._execute(command, packages=[package_id])

    async def collect_garbage(
        self,
        *,
        grace: timedelta = DEFAULT_GRACE,
        dry_run: bool = False,
        on_progress: Callable[[GarbageReport], None] | None = None,
    ) -> GarbageReport:
        """Remove the bytes that no package refers to, or only deleted ones do.

        Safe while others ingest, in this process or another: no event ever refers to bytes that
        were removed. The backend must belong to this registry's database alone.

        Args:
            grace: what was put or touched since then stays; longer than the longest upload takes
                from the end of its stream to its commit, or that upload fails.
            dry_run: say what would go, and remove nothing.
            on_progress: called now and then.

        Raises:
            DatabaseUnavailableError: the database does not answer.
            StorageUnavailableError: the backend does not answer.
            ValueError: ``grace`` is negative.
        """
        return await collect_garbage(
            self._database,
            self._dataplane,
            self._clock,
            grace=grace,
            dry_run=dry_run,
            on_progress=on_progress,
        )

    async def gc(self, *, grace: timedelta = DEFAULT_GRACE) -> GarbageReport:
        """Short for `collect_garbage`."""
        return await self.collect_garbage(grace=grace)

    async def export_package(
        self,
        package_id: UUID,
        path: str | os.PathLike[str],
        format: ExportFormat = "bagit",  # noqa: A002
        *,
        on_progress: Callable[[TransferProgress], None] | None = None,
    ) -> None:
        """Write a finalized package as a folder that other tools read.

        The folder appears whole, and is on disk when this returns.

        Args:
            package_id: of the package.
            path: where the folder goes; nothing may be there.
            format: ``bagit`` for a BagIt bag (RFC 8493), ``oci`` for an OCI image layout.
            on_progress: called after each chunk.

        Raises:
            ContentDamagedError: stored bytes are not what the manifest says; nothing is left.
            ContentNotFoundError: stored bytes are gone; nothing is left.
            ExportRefusedError: the path is taken or cannot be written, or a bag cannot hold a name.
            IllegalPackageStateError: the package is not finalized, or was deleted.
            InvalidValueError: another format.
            PackageNotFoundError: there is no such package.
        """
        await export_package(
            self._database,
            self._dataplane,
            package_id,
            Path(path),
            form=format,
            on_progress=on_progress,
        )

    async def import_package(
        self,
        path: str | os.PathLike[str],
        *,
        actor: str,
        on_progress: Callable[[TransferProgress], None] | None = None,
    ) -> UUID:
        """Take a package from a folder that `export_package` wrote, of either format.

        Every byte is hashed again. The package keeps its id and its manifest, byte for byte; what
        else it went through where it came from, such as holds, is not in the folder.

        Args:
            path: the folder.
            actor: who imports it; the events before say who made it.
            on_progress: called after each chunk.

        Returns:
            The id of the package.

        Raises:
            ImportRefusedError: the folder does not hold what it says; no package was made.
            InvalidValueError: ``actor`` is not legal.
            PackageExistsError: the registry has a package of this id, or its tombstone.
            StorageUnavailableError: the bytes could not be stored.
            UnknownRetentionClassError: its retention class is not in the table.
        """
        check_text("actor", actor)

        return await import_package(
            self._database,
            self._dataplane,
            self._execute,
            self._early_state,
            Path(path),
            actor=actor,
            limits=self._limits,
            on_progress=on_progress,
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
    ) -> T:
        """Run a command in the next group commit; what every method that changes anything uses."""
        return await self._commands.execute(
            decide, packages=packages, paths=paths, locations=locations
        )

"""Packages out of a registry and into one, in either form.

An imported package keeps its id, its manifest byte for byte, and the ids, times and actors of its
files. The log gets the events that the package had where it came from, with the times and actors
that its manifest names, and then ``v1.package.imported``, which says who brought it and when: all
of them at once, or none.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._garbage import check_content
from starfish_artifact_registry.commands._packages import read_manifest_bytes, repaired
from starfish_artifact_registry.commands._state import CommandState, Decide, Decision
from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db._sqlite_thread import beside_loop
from starfish_artifact_registry.db.schema import artifact_files
from starfish_artifact_registry.errors import (
    DigestMismatchError,
    IllegalPackageStateError,
    ImportRefusedError,
    InvalidValueError,
    PackageExistsError,
)
from starfish_artifact_registry.interchange._archive import unpacked
from starfish_artifact_registry.interchange._bagit import read_bag, write_bag
from starfish_artifact_registry.interchange._oci import read_layout, write_layout
from starfish_artifact_registry.interchange._package_source import (
    ForeignFile,
    ForeignPackage,
    PackageSource,
)
from starfish_artifact_registry.interchange._source_folder import SourceFolder, source_folder
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.model import _manifest as manifests
from starfish_artifact_registry.model._catalogue import (
    EventPayload,
    FileIngested,
    PackageCreated,
    PackageFinalized,
    PackageImported,
    storage_location_id,
)
from starfish_artifact_registry.model._event_codec import EncodedPayload, NewEvent, encode_payload
from starfish_artifact_registry.model._history import Fact, PackageHistory
from starfish_artifact_registry.model._manifest import Manifest, ManifestFile
from starfish_artifact_registry.model._package_metadata import check_metadata
from starfish_artifact_registry.storage._base import StoredContent
from starfish_artifact_registry.storage._dataplane import InProcessDataPlane
from starfish_artifact_registry.storage._expected import expecting
from starfish_artifact_registry.views._query import find_package
from starfish_protocol import cbor

__all__ = ("ExportFormat", "TransferProgress", "export_package", "import_package")

ExportFormat = Literal["bagit", "oci"]
"""``bagit`` for a BagIt bag, ``oci`` for an OCI image layout."""
_WRITERS: Final = {"bagit": write_bag, "oci": write_layout}
_CHUNK: Final = 500  # ids of one statement; SQLite takes some thousands


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far an export or import has come."""

    files: int
    """Files that are begun."""
    bytes: int
    """Bytes that were read."""


FOREIGN_RETENTION_CLASS: Final = "raw-evidence"
"""How long a package that another program made is kept."""
_MEDIA_TYPES: Final = mimetypes.MimeTypes(filenames=())
"""The table of Python itself: the same on every machine."""
T = TypeVar("T")
OnProgress = Callable[[TransferProgress], None]


class Execute(Protocol):
    """Runs a command in the next group commit."""

    def __call__(
        self, decide: Decide[T], *, packages: Collection[UUID], locations: Collection[UUID]
    ) -> Awaitable[T]:
        """Run it."""
        ...


async def export_package(
    database: Database,
    dataplane: InProcessDataPlane,
    package_id: UUID,
    target: Path,
    *,
    form: ExportFormat,
    on_progress: OnProgress | None = None,
) -> None:
    """Write a package to a folder; see `Registry.export_package`."""
    if form not in _WRITERS:
        raise InvalidValueError("format", form, " or ".join(map(repr, _WRITERS)))
    async with database.read() as connection:
        package = await find_package(connection, package_id)
        if package.status == "deleted":
            raise IllegalPackageStateError(package_id, "deleted", "it cannot be exported")
        manifest_bytes = await read_manifest_bytes(connection, package_id)
    meter = _Meter(on_progress)
    await _WRITERS[form](
        target,
        manifests.decode(manifest_bytes),
        manifest_bytes,
        lambda file: meter.of(dataplane.read(file.content_address)),
    )


async def import_package(
    database: Database,
    dataplane: InProcessDataPlane,
    execute: Execute,
    early_state: Callable[[AsyncConnection], CommandState],
    source_path: Path,
    *,
    actor: str,
    limits: Limits,
    on_progress: OnProgress | None = None,
) -> UUID:
    """Take a package from a folder; see `Registry.import_package`."""
    if await asyncio.to_thread(source_path.is_file):
        with ExitStack() as opened:
            unpack = partial(
                opened.enter_context, unpacked(source_path, max_files=limits.max_files)
            )
            folder_path = await asyncio.to_thread(unpack)
            try:
                return await _import_folder(
                    *(database, dataplane, execute, early_state, folder_path),
                    actor=actor,
                    limits=limits,
                    on_progress=on_progress,
                )
            finally:
                await asyncio.to_thread(opened.close)
    return await _import_folder(
        *(database, dataplane, execute, early_state, source_path),
        actor=actor,
        limits=limits,
        on_progress=on_progress,
    )


async def _import_folder(
    database: Database,
    dataplane: InProcessDataPlane,
    execute: Execute,
    early_state: Callable[[AsyncConnection], CommandState],
    source_path: Path,
    *,
    actor: str,
    limits: Limits,
    on_progress: OnProgress | None,
) -> UUID:
    async with source_folder(source_path) as folder:
        form, source = await _open(folder, limits.max_files)
        meter = _Meter(on_progress)
        if isinstance(source, ForeignPackage):
            return await _import_foreign(
                dataplane, execute, source, source_path.name, form=form, actor=actor, meter=meter
            )
        manifest = source.manifest
        package_id = UUID(manifest.package.id)
        async with database.read() as connection:
            # What will be refused is refused before gigabytes are read.
            await _new_events(early_state(connection), manifest, form, dataplane.backend_id, actor)
        stored = {file.id: await _store(dataplane, source, file, meter) for file in manifest.files}
        # The first may have been waiting for the last beyond any time of grace.
        for file in manifest.files:
            if not await dataplane.backend.touch(file.content_address):
                stored[file.id] = await _store(dataplane, source, file, meter)
    contents = {content.address: content for content in stored.values()}

    async def decide(state: CommandState) -> Decision[None]:
        new = await _new_events(state, manifest, form, dataplane.backend_id, actor)
        for content in contents.values():
            await check_content(state, dataplane, content)
            new += repaired(package_id, content, dataplane, actor, "import")
        return Decision(None, new)

    await execute(
        decide,
        packages=[package_id],
        locations=[storage_location_id(dataplane.backend_id, address) for address in contents],
    )
    return package_id


async def _import_foreign(
    dataplane: InProcessDataPlane,
    execute: Execute,
    source: ForeignPackage,
    folder_name: str,
    *,
    form: ExportFormat,
    actor: str,
    meter: _Meter,
) -> UUID:
    """Make a package of a bag that another program made, described by its ``bag-info.txt``."""
    stored: list[tuple[ForeignFile, StoredContent]] = []
    for file in source.files:
        stream = expecting(meter.of(source.read(file)), file.digests, file.size)
        try:
            stored.append((file, await dataplane.put(stream)))
        except DigestMismatchError as error:
            raise ImportRefusedError(file.path, str(error)) from error
    created_from = _described(source.info, folder_name)

    async def decide(state: CommandState) -> Decision[UUID]:
        package_id = state.new_id()
        try:
            payloads: list[EventPayload] = [
                PackageCreated(
                    **created_from,
                    retention_class=FOREIGN_RETENTION_CLASS,
                    retention_days=await state.retention_days(FOREIGN_RETENTION_CLASS),
                    metadata=check_metadata({"bag_info": source.info} if source.info else {}),
                )
            ]
        except InvalidValueError as error:
            raise ImportRefusedError("bag-info.txt", str(error)) from error
        new: list[NewEvent] = []
        for file, content in stored:
            await check_content(state, dataplane, content)
            new += repaired(package_id, content, dataplane, actor, "import")
            payloads.append(
                FileIngested(
                    file_id=state.new_id(),
                    relative_path=file.relative_path,
                    media_type=_media_type(file.relative_path),
                    size=content.size,
                    content_address=content.address,
                    sha256=content.sha256,
                    backend_id=dataplane.backend_id,
                    storage_location_id=storage_location_id(dataplane.backend_id, content.address),
                )
            )
        sealed = await beside_loop(lambda: _seal(package_id, payloads, actor, state.now))
        events = [NewEvent(package_id, payload, actor, state.now) for payload in payloads]
        return Decision(
            package_id,
            [
                *events,
                NewEvent(package_id, sealed, actor, state.now),
                NewEvent(package_id, PackageImported(source_format=form), actor),
                *new,
            ],
        )

    addresses = {content.address for _, content in stored}
    return await execute(
        decide,
        packages=[],
        locations=[storage_location_id(dataplane.backend_id, address) for address in addresses],
    )


def _seal(
    package_id: UUID, payloads: Sequence[EventPayload], actor: str, now: datetime
) -> EncodedPayload:
    history = PackageHistory(package_id)
    for sequence, payload in enumerate(payloads, 1):
        history.add(Fact(sequence, payload, encode_payload(payload), b"", actor, now))
    data = history.manifest_bytes(finalized_at=now, finalized_by=actor)
    return EncodedPayload(PackageFinalized.event_type, data)


def _described(info: Mapping[str, str | list[str]], folder_name: str) -> dict[str, str]:
    def first(*names: str) -> str:
        for name in names:
            value = info.get(name)
            if value:
                return value if isinstance(value, str) else value[0]
        return folder_name or "bag"

    return {
        "name": first("External-Identifier", "Internal-Sender-Identifier"),
        "producer": first("Source-Organization", "Contact-Name"),
        "subject": first("External-Description", "Internal-Sender-Description"),
    }


def _media_type(path: str) -> str:
    found, encoding = _MEDIA_TYPES.guess_type(path)
    return found if found is not None and encoding is None else "application/octet-stream"


async def _open(
    folder: SourceFolder, max_files: int
) -> tuple[ExportFormat, PackageSource | ForeignPackage]:
    names = await folder.names()
    if "bagit.txt" in names:
        return "bagit", await read_bag(folder, max_files=max_files)
    if "oci-layout" in names:
        return "oci", await read_layout(folder, max_files=max_files)
    raise ImportRefusedError(".", "it has neither bagit.txt nor oci-layout")


async def _store(
    dataplane: InProcessDataPlane, source: PackageSource, file: ManifestFile, meter: _Meter
) -> StoredContent:
    stored = await dataplane.put(meter.of(source.read(file)))
    wanted = (file.content_address, file.sha256, file.size)
    if (stored.address, stored.sha256, stored.size) != wanted:
        raise ImportRefusedError(
            file.relative_path, f"its content is {stored.address}, not {file.content_address}"
        )
    return stored


async def _new_events(
    state: CommandState, manifest: Manifest, form: ExportFormat, backend_id: str, actor: str
) -> list[NewEvent]:
    """The events of an import.

    Raises:
        ImportRefusedError: the manifest has values or ids that this registry cannot take.
        PackageExistsError: the registry has a package of this id.
        UnknownRetentionClassError: it does not know the retention class.
    """
    package = manifest.package
    package_id = UUID(package.id)
    if await state.find_package(package_id) is not None:
        raise PackageExistsError(package_id)
    await _check_file_ids(await state.connection(), [file.id for file in manifest.files])
    if cbor.encode(check_metadata(package.metadata)) != cbor.encode(package.metadata):
        raise ImportRefusedError("metadata", "its numbers are not in their canonical form")
    retention_days = await state.retention_days(package.retention_class)
    try:
        created = PackageCreated(
            name=package.name,
            producer=package.producer,
            subject=package.subject,
            retention_class=package.retention_class,
            retention_days=retention_days,
            metadata=package.metadata,
        )
        return [
            NewEvent(package_id, created, package.created_by, package.created_at),
            *(_ingested(package_id, file, backend_id) for file in manifest.files),
            NewEvent(
                package_id,
                PackageFinalized(manifest=manifest),
                package.finalized_by,
                package.finalized_at,
            ),
            NewEvent(
                package_id,
                PackageImported(source_format=form),
                actor,
            ),
        ]
    except InvalidValueError as error:
        raise ImportRefusedError("manifest", str(error)) from error


def _ingested(package_id: UUID, file: ManifestFile, backend_id: str) -> NewEvent:
    ingested = FileIngested(
        file_id=file.id,
        relative_path=file.relative_path,
        media_type=file.media_type,
        size=file.size,
        content_address=file.content_address,
        sha256=file.sha256,
        backend_id=backend_id,
        storage_location_id=storage_location_id(backend_id, file.content_address),
        facts=file.facts,
    )
    return NewEvent(package_id, ingested, file.ingested_by, file.ingested_at)


async def _check_file_ids(connection: AsyncConnection, file_ids: Sequence[UUID]) -> None:
    if len(set(file_ids)) != len(file_ids):
        raise ImportRefusedError("manifest", "two of its files have the same id")
    column = artifact_files.c.id
    for start in range(0, len(file_ids), _CHUNK):
        wanted = select(column).where(column.in_(file_ids[start : start + _CHUNK])).limit(1)
        taken = (await connection.execute(wanted)).scalar()
        if taken is not None:
            raise ImportRefusedError("manifest", f"this registry has another file {taken}")


class _Meter:
    """Counts what passes by."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress
        self._files = self._bytes = 0

    async def of(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._files += 1
        async for chunk in stream:
            self._bytes += len(chunk)
            if self._on_progress is not None:
                self._on_progress(TransferProgress(self._files, self._bytes))
            yield chunk

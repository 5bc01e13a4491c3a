"""Calls that make packages: create, ingest, finalize, and reading what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Literal
from uuid import UUID

from starfish_artifact_registry.commands import _packages as packages
from starfish_artifact_registry.commands._packed_content import PackedContent
from starfish_artifact_registry.errors import (
    DuplicateRelativePathError,
    InvalidValueError,
)
from starfish_artifact_registry.log._histories import read_history
from starfish_artifact_registry.model import _manifest as manifests
from starfish_artifact_registry.model._catalogue import (
    check_media_type,
    check_text,
    storage_location_id,
)
from starfish_artifact_registry.model._package_metadata import check_metadata
from starfish_artifact_registry.model._relative_path import check_relative_path
from starfish_artifact_registry.registry._parts import RegistryParts
from starfish_artifact_registry.storage._expected import check_expected, expecting
from starfish_artifact_registry.views import _files as files
from starfish_artifact_registry.views._files import FileRecord
from starfish_protocol.address import ContentAddress

__all__ = ("PackageCalls",)


class PackageCalls(RegistryParts):
    """Packages and files in, manifests and bytes out."""

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
        expected: Mapping[str, str] | None = None,
        expected_size: int | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> UUID:
        """Add a file to a package; its bytes and its event are on disk when this returns.

        A refusal that needs no bytes comes before the stream is read. The same bytes at the same
        path again are the same file: a caller whose connection broke may send again. When two
        calls race for a path with other bytes, one wins and the other finds out after its stream;
        its bytes are left to garbage collection.

        Args:
            package_id: of a package with status ``created``.
            relative_path: where it goes; a relative POSIX path in NFC.
            media_type: its type, such as ``text/plain; charset=utf-8``.
            stream: its bytes, in chunks of any size.
            actor: who adds it.
            expected: digests that its bytes must have, in hex, by algorithm: ``blake3``,
                ``sha256``, ``sha512``, ``sha1``, ``md5``.
            expected_size: how many bytes it must have.
            facts: what its source says of it, such as ``modified_at`` in milliseconds; a JSON
                object, which stands in the event and in the manifest.

        Returns:
            The id of the file.

        Raises:
            DigestMismatchError: the bytes are others than expected; nothing is stored.
            DuplicateRelativePathError: the package has other bytes at this path.
            IllegalPackageStateError: the package takes no files any more.
            InvalidRelativePathError: the path is refused; also a ``ValueError``.
            InvalidValueError: another value is refused, or the package is full.
            PackageNotFoundError: there is no such package.
            StorageUnavailableError: the bytes could not be stored.
        """
        check_relative_path(relative_path)
        check_media_type(media_type)
        check_text("actor", actor)
        described = check_metadata({} if facts is None else dict(facts))
        digests = check_expected(expected or {})
        if digests or expected_size is not None:
            stream = expecting(stream, digests, expected_size)
        early = await self._early.state_of(package_id, relative_path)
        package = await early.package(package_id)
        known = early.known_file(package_id, relative_path)
        if known is None:
            packages.check_takes_file(package_id, package, max_files=self._limits.max_files)
        else:
            stream = await self._no_longer_than(known, stream)
        stored = await self._dataplane.put_or_pack(stream)
        is_packed = isinstance(stored, PackedContent)
        command = packages.ingest_file(
            package_id,
            relative_path=relative_path,
            media_type=media_type,
            stored=stored,
            dataplane=self._dataplane,
            actor=actor,
            max_files=self._limits.max_files,
            facts=described,
        )
        return await self._execute(
            command,
            packages=[package_id],
            paths=[(package_id, relative_path)],
            locations=()
            if is_packed
            else [storage_location_id(self._dataplane.backend_id, stored.address)],
            packed=stored.address if is_packed else None,
        )

    async def _no_longer_than(
        self, file_id: UUID, stream: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The same stream; it ends with the refusal as soon as it cannot be the known file."""
        async with self._database.read() as connection:
            known = await files.find_file(connection, file_id)

        async def bounded() -> AsyncIterator[bytes]:
            size = 0
            async for chunk in stream:
                size += len(chunk)
                if size > known.size:
                    raise DuplicateRelativePathError(known.package_id, known.relative_path)
                yield chunk

        return bounded()

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
        async with self._database.read() as connection:
            known = await read_history(connection, package_id)
        command = packages.finalize_package(package_id, known, actor=actor)
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
        return data if format == "cbor" else await asyncio.to_thread(_as_json, data)

    async def get_file(
        self, file_id: UUID, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of a file, or those from ``start`` up to but without ``end``.

        Raises:
            ContentNotFoundError: the backend lost the content; raised by the first chunk.
            FileNotFoundInRegistryError: there is no such file, or its package was deleted.
            StorageUnavailableError: the backend does not answer.
        """
        async with self._database.read() as connection:
            file = await files.find_file(connection, file_id)
        return self._dataplane.read(file.content_address, start, end)

    async def find_file(self, file_id: UUID) -> FileRecord:
        """The record of a file.

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


def _as_json(data: bytes) -> bytes:
    return manifests.to_json(manifests.decode(data))

"""Calls that write packages for other tools and take them in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from starfish_artifact_registry.interchange._transfer import (
    ExportFormat,
    TransferProgress,
    export_package,
    import_package,
)
from starfish_artifact_registry.model._catalogue import (
    check_text,
)
from starfish_artifact_registry.registry._parts import RegistryParts

__all__ = ("InterchangeCalls",)


class InterchangeCalls(RegistryParts):
    """Export and import."""

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

"""Calls that hash stored bytes again."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from starfish_artifact_registry.errors import (
    IllegalPackageStateError,
)
from starfish_artifact_registry.fixity import FixityProgress, FixityReport, FixitySummary
from starfish_artifact_registry.fixity import _check as fixity
from starfish_artifact_registry.model._catalogue import (
    check_text,
)
from starfish_artifact_registry.registry._parts import RegistryParts

__all__ = ("FixityCalls",)


class FixityCalls(RegistryParts):
    """Checks of stored bytes."""

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

"""Calls about how long a package stays: holds, expiry, deletion, garbage collection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from starfish_artifact_registry.commands import _retention as retention
from starfish_artifact_registry.commands._garbage import (
    DEFAULT_GRACE,
    GarbageReport,
    collect_garbage,
)
from starfish_artifact_registry.errors import (
    ClockNotConfirmedError,
    IllegalPackageStateError,
    RetentionError,
)
from starfish_artifact_registry.model._catalogue import (
    check_text,
)
from starfish_artifact_registry.registry._parts import RegistryParts

__all__ = ("CustodyCalls",)


class CustodyCalls(RegistryParts):
    """Retention and removal."""

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
        hold_id = self._new_id()
        command = retention.about(
            package_id,
            lambda history, _: retention.place_hold(
                history, hold_id=hold_id, reason=reason, actor=actor
            ),
        )
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
        command = retention.about(
            package_id,
            lambda history, _: retention.release_hold(history, hold_id, reason=reason, actor=actor),
        )
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
        command = retention.about(
            package_id, lambda history, moments: retention.expire(history, moments, actor=actor)
        )
        await self._execute(command, packages=[package_id])

    async def expire_due(self, *, actor: str, limit: int = 1000) -> list[UUID]:
        """Expire packages that are past their date and not held, those longest past first.

        Returns:
            Which ones, at most ``limit``; fewer when it is done.

        Raises:
            ClockNotConfirmedError: they are past their date only by a clock that jumped ahead.
            InvalidValueError: ``actor`` is not legal.
        """
        check_text("actor", actor)
        async with self._database.read() as connection:
            due = await retention.past_retention(connection, self._clock.now(), limit=limit)
        expired: list[UUID] = []
        for package_id in due:
            try:
                await self.expire_package(package_id, actor=actor)
            except ClockNotConfirmedError:
                raise  # the next one would meet the same
            except (RetentionError, IllegalPackageStateError):
                continue  # somebody else may have held, expired or deleted it meanwhile
            expired.append(package_id)
        return expired

    async def confirm_clock(self, *, reason: str, actor: str) -> datetime:
        """Confirm that the registry's clock is right, after it jumped ahead or stood still.

        Between two events at most a day counts for retention, so that no jump of a clock lets
        evidence go. After a longer pause somebody who knows the time says so, once.

        Args:
            reason: how the time is known; stands in the log.
            actor: who confirms it.

        Returns:
            The time that counts from now on, aware UTC.

        Raises:
            InvalidValueError: a text cannot be kept; the error names it.
        """
        check_text("reason", reason)
        check_text("actor", actor)
        return await self._execute(retention.confirm_clock(reason=reason, actor=actor))

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
        command = retention.about(
            package_id,
            lambda history, moments: retention.delete(history, moments, reason=reason, actor=actor),
        )
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
            grace: content put or touched since then stays; longer than the longest upload takes
                from the end of its stream to its commit, or that upload fails.
            dry_run: say what would go, and remove nothing.
            on_progress: called now and then.

        Raises:
            DatabaseUnavailableError: the database does not answer.
            StorageUnavailableError: the backend does not answer.
            ValueError: ``grace`` is negative.
            ViewsDifferError: the tables are not those of the log; nothing is removed.
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

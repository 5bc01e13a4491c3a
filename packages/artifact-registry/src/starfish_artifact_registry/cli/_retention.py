"""``retention hold|release|expire|delete`` and ``gc``: when things may go."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from starfish_artifact_registry.cli._command import LOCAL_ACTOR, Actor, Session, command
from starfish_artifact_registry.cli._packages import PackageId
from starfish_artifact_registry.cli._terminal_text import readable_size
from starfish_artifact_registry.model._json_form import json_form

__all__ = ("add_retention_commands",)

_Reason = Annotated[str, typer.Option(help="Why; stands in the log.")]


def add_retention_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    group = typer.Typer(no_args_is_help=True, help="Holds, expiry and deletion.")
    command(group, "hold")(hold)
    command(group, "release")(release)
    command(group, "expire")(expire)
    command(group, "delete")(delete)
    command(group, "confirm-clock")(confirm_clock)
    app.add_typer(group, name="retention")
    command(app, "gc")(gc)


async def hold(
    session: Session, package_id: PackageId, *, reason: _Reason, actor: Actor = LOCAL_ACTOR
) -> None:
    """Forbid that a package goes, whatever its date; prints the id of the hold."""
    async with session.registry() as registry:
        hold_id = await registry.hold_package(package_id, reason=reason, actor=actor)
    session.output.result({"package_id": str(package_id), "hold_id": str(hold_id)}, str(hold_id))


async def release(
    session: Session,
    package_id: PackageId,
    hold_id: Annotated[UUID, typer.Argument(metavar="HOLD", help="Id of the hold.")],
    *,
    reason: _Reason,
    actor: Actor = LOCAL_ACTOR,
) -> None:
    """Lift a hold."""
    async with session.registry() as registry:
        await registry.release_hold(package_id, hold_id, reason=reason, actor=actor)
    session.output.result(
        {"package_id": str(package_id), "hold_id": str(hold_id)}, f"released {hold_id}"
    )


async def expire(
    session: Session,
    package_id: Annotated[
        UUID | None, typer.Argument(metavar="[PACKAGE]", help="This one; else all that are due.")
    ] = None,
    *,
    actor: Actor = LOCAL_ACTOR,
) -> None:
    """Say in the log that packages are past their retention date; they stay readable."""
    expired: list[UUID] = []
    async with session.registry() as registry:
        if package_id is not None:
            await registry.expire_package(package_id, actor=actor)
            expired.append(package_id)
        else:
            while page := await registry.expire_due(actor=actor):
                expired += page
    session.output.result({"expired": json_form(expired)}, "\n".join(map(str, expired)))


async def delete(
    session: Session, package_id: PackageId, *, reason: _Reason, actor: Actor = LOCAL_ACTOR
) -> None:
    """Make a package past its date a tombstone; `gc` then removes its bytes."""
    async with session.registry() as registry:
        await registry.delete_package(package_id, reason=reason, actor=actor)
    session.output.result({"package_id": str(package_id)}, f"deleted {package_id}")


async def confirm_clock(session: Session, *, reason: _Reason, actor: Actor = LOCAL_ACTOR) -> None:
    """Confirm that this machine's clock is right, after a pause of more than a day or a jump."""
    async with session.registry() as registry:
        now = await registry.confirm_clock(reason=reason, actor=actor)
    session.output.result({"confirmed": json_form(now)}, f"confirmed: it is {now.isoformat()}")


async def gc(
    session: Session,
    *,
    grace_hours: Annotated[
        float | None,
        typer.Option(min=0, help="Spare content that was stored or touched since; 24 if not said."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
) -> None:
    """Remove stored bytes that no package refers to, or only deleted ones do."""
    async with session.registry() as registry:
        if grace_hours is None:
            report = await registry.collect_garbage(dry_run=dry_run)
        else:
            grace = timedelta(hours=grace_hours)
            report = await registry.collect_garbage(grace=grace, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    session.output.result(
        {**json_form(report), "dry_run": dry_run},
        f"{verb} {report.contents_removed} of {report.contents_seen} contents, "
        f"{readable_size(report.bytes_removed)}",
    )

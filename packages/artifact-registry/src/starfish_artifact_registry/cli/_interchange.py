"""``export`` and ``import``: packages as folders that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from starfish_artifact_registry.cli._command import LOCAL_ACTOR, Actor, Session, command
from starfish_artifact_registry.cli._packages import PackageId
from starfish_artifact_registry.cli._progress import Meter, meter
from starfish_artifact_registry.cli._terminal_text import printable
from starfish_artifact_registry.interchange._transfer import TransferProgress

__all__ = ("add_interchange_commands",)


def add_interchange_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    command(app, "export")(export)
    command(app, "import")(import_)


async def export(
    session: Session,
    package_id: PackageId,
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Must not be there yet.")],
    *,
    form: Annotated[
        Literal["bagit", "oci"], typer.Option("--format", help="A BagIt bag or an OCI layout.")
    ] = "bagit",
) -> None:
    """Write a finalized package as a folder; every byte is checked on the way."""
    async with session.registry() as registry:
        with meter(session.output) as progress:
            await registry.export_package(
                package_id, target, form, on_progress=lambda done: _show(progress, done)
            )
    session.output.result(
        {"package_id": str(package_id), "path": str(target), "format": form},
        printable(str(target)),
    )


async def import_(
    session: Session,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A bag or a layout.")],
    *,
    actor: Actor = LOCAL_ACTOR,
) -> None:
    """Take a package from a folder that `export` wrote; prints its id, which it keeps."""
    async with session.registry() as registry:
        with meter(session.output) as progress:
            package_id = await registry.import_package(
                source, actor=actor, on_progress=lambda done: _show(progress, done)
            )
    session.output.result({"package_id": str(package_id)}, str(package_id))


def _show(progress: Meter, done: TransferProgress) -> None:
    progress.add_bytes(done.bytes - progress.bytes)
    while progress.files < done.files:
        progress.add_file()

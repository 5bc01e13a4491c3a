"""``create``, ``finalize``, ``show``, ``ls``, ``manifest``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from uuid import UUID

import typer

from starfish_artifact_registry.cli._command import LOCAL_ACTOR, Actor, Session, command

__all__ = ("add_package_commands",)

PackageId = Annotated[UUID, typer.Argument(metavar="PACKAGE", help="Id of the package.")]
"""The argument of every command about one package."""


def add_package_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    command(app, "create")(create)
    command(app, "finalize")(finalize)
    command(app, "manifest")(manifest)


async def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="What its producer calls it.")],
    *,
    producer: Annotated[str, typer.Option(help="Who or what made the files.")],
    subject: Annotated[str, typer.Option(help="What they are about.")],
    retention_class: Annotated[
        str, typer.Option("--class", help="How long it must be kept.")
    ] = "raw-evidence",
    metadata: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="Text to be kept with it; repeatable."),
    ] = None,
    metadata_file: Annotated[
        Path | None,
        typer.Option("--meta-file", metavar="FILE", help="A JSON object to be kept with it."),
    ] = None,
    actor: Actor = LOCAL_ACTOR,
) -> None:
    """Open a new package and print its id."""
    described = _metadata(metadata or [], metadata_file)
    async with session.registry() as registry:
        package_id = await registry.create_package(
            name=name,
            producer=producer,
            subject=subject,
            retention_class=retention_class,
            actor=actor,
            metadata=described,
        )
    session.output.result({"package_id": str(package_id)}, str(package_id))


async def finalize(session: Session, package_id: PackageId, *, actor: Actor = LOCAL_ACTOR) -> None:
    """Close a package for ever and print the address of its manifest."""
    async with session.registry() as registry:
        digest = await registry.finalize_package(package_id, actor=actor)
    session.output.result(
        {"package_id": str(package_id), "manifest_digest": str(digest)}, str(digest)
    )


async def manifest(
    session: Session,
    package_id: PackageId,
    *,
    form: Annotated[
        Literal["json", "cbor"],
        typer.Option("--format", help="JSON of RFC 8785, or the CBOR that the digest is of."),
    ] = "json",
) -> None:
    """Print the manifest of a finalized package, byte for byte."""
    async with session.registry() as registry:
        content = await registry.get_manifest_bytes(package_id, format=form)
    if session.output.as_json:
        value = json.loads(content) if form == "json" else content.hex()
        session.output.result({"package_id": str(package_id), "manifest": value}, "")
        return
    session.output.content(content)
    if sys.stdout.isatty():
        session.output.content(b"\n")


def _metadata(pairs: list[str], file: Path | None) -> dict[str, Any] | None:
    described: dict[str, Any] = {}
    if file is not None:
        try:
            value: object = json.loads(file.read_bytes())
        except ValueError as error:
            raise typer.BadParameter(f"--meta-file {file} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise typer.BadParameter(f"--meta-file {file} is not a JSON object")
        described = cast("dict[str, Any]", value)
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"--meta {pair!r} is refused; it must be KEY=VALUE")
        described[key] = value
    return described or None

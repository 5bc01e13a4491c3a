"""``show`` and ``ls``: packages and files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from starfish_artifact_registry.cli._command import Session, command
from starfish_artifact_registry.cli._packages import PackageId
from starfish_artifact_registry.cli._terminal_text import printable, readable_size
from starfish_artifact_registry.model._json_form import json_form
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.views._query import PackageRecord

__all__ = ("add_find_commands",)

_PAGE = 500


def add_find_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    command(app, "show")(show)
    command(app, "ls")(ls)


async def show(session: Session, package_id: PackageId) -> None:
    """Say everything about one package, deleted ones included."""
    async with session.registry() as registry:
        package = await registry.get_package(package_id)
    form: dict[str, Any] = json_form(package)
    lines = [f"{name:<20} {_text(name, value)}" for name, value in form.items() if name != "holds"]
    lines += [f"{'held':<20} {hold.hold_id} {printable(hold.reason)}" for hold in package.holds]
    session.output.result(form, "\n".join(lines))


async def ls(
    session: Session,
    package_id: Annotated[
        UUID | None, typer.Argument(metavar="[PACKAGE]", help="Its files; else the packages.")
    ] = None,
    *,
    name: Annotated[str | None, typer.Option(help="Exactly this name.")] = None,
    producer: Annotated[str | None, typer.Option(help="Exactly this producer.")] = None,
    subject: Annotated[str | None, typer.Option(help="Exactly this subject.")] = None,
    status: Annotated[
        str | None, typer.Option(help="created, finalized, expired or deleted.")
    ] = None,
    retention_class: Annotated[str | None, typer.Option("--class", help="This class.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Has this text.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most lines; all if not said.")
    ] = None,
) -> None:
    """List packages, oldest first, or the files of one by path; one line each."""
    pairs = [pair.partition("=") for pair in metadata or []]
    described = {key: value for key, _, value in pairs}
    filters: dict[str, Any] = {
        "name": name,
        "producer": producer,
        "subject": subject,
        "status": status,
        "retention_class": retention_class,
        "metadata": described or None,
    }
    async with session.registry() as registry:
        if package_id is None:
            await _list_packages(session, registry, filters, limit)
        else:
            await _list_files(session, registry, package_id, limit)


async def _list_packages(
    session: Session, registry: Registry, filters: Mapping[str, Any], limit: int | None
) -> None:
    after: UUID | None = None
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        page = await registry.list_packages(**filters, after=after, limit=size)
        for package in page:
            session.output.result(json_form(package), _package_line(package))
        if len(page) < size:
            return
        after = page[-1].package_id
        left = None if left is None else left - len(page)


async def _list_files(
    session: Session, registry: Registry, package_id: UUID, limit: int | None
) -> None:
    await registry.get_package(package_id)  # to tell an empty package from none
    after: str | None = None
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        page = await registry.list_files(package_id, after=after, limit=size)
        for file in page:
            session.output.result(
                json_form(file),
                f"{file.file_id}  {readable_size(file.size):>10}  {printable(file.relative_path)}",
            )
        if len(page) < size:
            return
        after = page[-1].relative_path
        left = None if left is None else left - len(page)


def _package_line(package: PackageRecord) -> str:
    created = package.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f"{package.package_id}  {package.status:<9}  {created}  {package.file_count:>6} files  "
        f"{readable_size(package.total_bytes):>10}  {printable(package.name)}"
    )


def _text(name: str, value: Any) -> str:
    if name.endswith(("_at", "_until")) and isinstance(value, int):
        return datetime.fromtimestamp(value / 1000, tz=UTC).isoformat(timespec="milliseconds")
    return "-" if value is None else printable(str(value))

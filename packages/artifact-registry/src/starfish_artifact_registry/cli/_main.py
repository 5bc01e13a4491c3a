"""All commands in one application."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from starfish_artifact_registry.cli._command import (
    BackendIdOption,
    DatabaseOption,
    JsonOption,
    RegistryOption,
    StorageOption,
)
from starfish_artifact_registry.cli._files import add_file_commands
from starfish_artifact_registry.cli._find import add_find_commands
from starfish_artifact_registry.cli._interchange import add_interchange_commands
from starfish_artifact_registry.cli._log import add_log_commands
from starfish_artifact_registry.cli._packages import add_package_commands
from starfish_artifact_registry.cli._places import add_place_commands
from starfish_artifact_registry.cli._proof import add_proof_commands
from starfish_artifact_registry.cli._retention import add_retention_commands
from starfish_artifact_registry.cli._serve import add_serve_commands

__all__ = ("build_app",)

_EPILOG = (
    "Exit status: 0 done; 1 refused, or a check found damage; 2 wrong usage; 3 not found; "
    "4 the state does not allow it; 5 database or storage unavailable; 130 interrupted."
)


def build_app() -> typer.Typer:
    """The application, for a program that runs it in a process of its own."""
    app = typer.Typer(
        name="artifact-registry",
        help="Packages of files as evidence: an append-only log, content by hash, and proof.",
        epilog=_EPILOG,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for add in (
        add_place_commands,
        add_package_commands,
        add_file_commands,
        add_find_commands,
        add_proof_commands,
        add_log_commands,
        add_retention_commands,
        add_interchange_commands,
        add_serve_commands,
    ):
        add(app)
    return app


def _show_version(value: bool) -> None:  # noqa: FBT001 - Typer hands the flag over so
    if value:
        typer.echo(f"artifact-registry {version('starfish-artifact-registry')}")
        raise typer.Exit


def _root(
    context: typer.Context,
    *,
    registry: RegistryOption = None,
    database: DatabaseOption = None,
    storage: StorageOption = None,
    backend_id: BackendIdOption = None,
    as_json: JsonOption = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Packages of files as evidence: an append-only log, content by hash, and proof."""
    context.obj = {
        "registry": registry,
        "database": database,
        "storage": storage,
        "backend_id": backend_id,
        "as_json": as_json,
    }

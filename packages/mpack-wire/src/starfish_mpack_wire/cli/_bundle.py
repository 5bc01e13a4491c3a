"""``bundle create, verify, unbundle``: history in one file, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from starfish_mpack_wire._terminal_text import terminal_line
from starfish_mpack_wire.bundle import create_bundle, read_bundle, unbundle, verify_bundle
from starfish_mpack_wire.cli._console import note, print_json, print_line
from starfish_mpack_wire.cli._options import Json, open_tree, resolve

__all__ = ("add_commands",)

bundle_commands = typer.Typer(help="Carry history in one file.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.add_typer(bundle_commands, name="bundle")


@bundle_commands.command("create")
def create(
    file: Path,
    branches: Annotated[list[str] | None, typer.Argument(help="All when left out.")] = None,
    since: Annotated[
        list[str] | None, typer.Option(help="Leave out what this commit builds on; repeatable.")
    ] = None,
    as_json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Write branches and tags into a file."""
    with open_tree() as tree:
        have = [resolve(tree.store, each) for each in since or ()]
        info = create_bundle(tree.store, file, branches=branches or None, have=have)
    if as_json:
        print_json(info.as_map())
    else:
        note(f"{info.commit_count} commits, {info.blob_count} blobs in {terminal_line(str(file))}.")


@bundle_commands.command("verify")
def verify(file: Path, as_json: Json = False) -> None:  # noqa: FBT002 - a flag
    """Check a file, and whether this folder has what it builds on."""
    with open_tree() as tree:
        info = verify_bundle(tree.store, file)
    if as_json:
        print_json(info.as_map())
        return
    for name, commit in {**info.branches, **info.tags}.items():
        print_line(f"{commit} {terminal_line(name)}")
    note(f"{terminal_line(str(file))} is whole, and can be taken in here.")


@bundle_commands.command("unbundle")
def take_in(
    file: Path,
    remote: Annotated[str, typer.Option(help="Where its branches are noted.")] = "bundle",
    as_json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Take in what a file has; no branch of this folder moves."""
    with open_tree() as tree:
        result = unbundle(tree.store, file, remote=remote)
        info = read_bundle(file)
    if as_json:
        print_json(info.as_map())
    else:
        note(
            f"{result.commits_written} new commits; branches are noted as "
            f"{terminal_line(remote)}/NAME: {terminal_line(', '.join(info.branches)) or 'none'}."
        )

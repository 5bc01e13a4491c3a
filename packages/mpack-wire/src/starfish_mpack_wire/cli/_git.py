"""``import-git, export-git``: from git and back; needs the extra ``git``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from starfish_mpack_wire.cli._console import count_bar, note, print_json, progress_bars
from starfish_mpack_wire.cli._options import Force, Json, open_tree
from starfish_mpack_wire.terminal_text import terminal_line

__all__ = ("add_commands",)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("import-git")(import_git)
    app.command("export-git")(export_git)


def import_git(
    repository: Annotated[Path, typer.Argument(help="A git repository, bare or not.")],
    force: Force = False,  # noqa: FBT002 - a flag
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Take in the branches and tags of a git repository; the next time, what is new."""
    from starfish_mpack_wire import git

    with open_tree() as tree:
        before, was_clean = tree.head(), tree.status().clean
        result = git.import_git(tree.store, repository, force=force)
        # Files of one's own are never mixed with what came in.
        if was_clean and tree.head() != before:
            with progress_bars() as show:
                tree.write_head(since=before, on_progress=count_bar(show))
    _report(result.as_map(), f"{result.commits} new commits", result.notes, as_json=as_json)


def export_git(
    repository: Annotated[Path, typer.Argument(help="A git repository; made when it is missing.")],
    force: Force = False,  # noqa: FBT002 - a flag
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Write all branches and tags into a git repository; the next time, what is new."""
    from starfish_mpack_wire import git

    with open_tree() as tree:
        result = git.export_git(tree.store, repository, force=force)
    _report(result.as_map(), f"{result.commits} new commits", result.notes, as_json=as_json)


def _report(result: dict[str, Any], summary: str, notes: tuple[str, ...], *, as_json: bool) -> None:
    for each in notes:
        note(f"note: {terminal_line(each)}")
    if as_json:
        print_json(result)
    else:
        note(f"{summary}.")

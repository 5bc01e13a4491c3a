"""``import-git, export-git``: from git and back; needs the extra ``git``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from starfish_mpack_wire._terminal_text import terminal_line
from starfish_mpack_wire.cli._console import count_bar, note, print_json, progress_bars
from starfish_mpack_wire.cli._options import Force, Json, open_tree

__all__ = ("add_commands",)

Lossy = Annotated[
    bool, typer.Option("--lossy", help="Go on without what cannot be carried, and name it.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("import-git")(import_git)
    app.command("export-git")(export_git)


def import_git(
    repository: Annotated[Path, typer.Argument(help="A git repository, bare or not.")],
    force: Force = False,  # noqa: FBT002 - a flag
    lossy: Lossy = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Take in all refs of a git repository; the next time, the new ones."""
    from starfish_mpack_wire import git

    with open_tree() as tree:
        before, was_clean = tree.head(), tree.status().clean
        result = git.import_git(tree.store, repository, force=force, lossy=lossy)
        # Files of one's own are never mixed with what came in.
        if was_clean and tree.head() != before:
            with progress_bars() as show:
                tree.write_head(since=before, on_progress=count_bar(show))
    _report(result.as_map(), f"{result.commits} new commits", result.notes, as_json=as_json)


def export_git(
    repository: Annotated[Path, typer.Argument(help="A git repository; made when it is missing.")],
    force: Force = False,  # noqa: FBT002 - a flag
    lossy: Lossy = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Write all refs into a git repository; the next time, the new ones."""
    from starfish_mpack_wire import git

    with open_tree() as tree:
        result = git.export_git(tree.store, repository, force=force, lossy=lossy)
    _report(result.as_map(), f"{result.commits} new commits", result.notes, as_json=as_json)


def _report(result: dict[str, Any], summary: str, notes: tuple[str, ...], *, as_json: bool) -> None:
    for each in notes:
        note(f"note: {terminal_line(each)}")
    if as_json:
        print_json(result)
    else:
        note(f"{summary}.")

"""``init, commit, log, status, branch, checkout, tag``: one folder and its history."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from starfish_mpack_wire._terminal_text import terminal_line, terminal_text
from starfish_mpack_wire.cli._console import (
    count_bar,
    note,
    print_json,
    print_line,
    progress_bars,
)
from starfish_mpack_wire.cli._options import (
    Force,
    Json,
    author_of,
    blobs_from,
    open_tree,
    resolve,
)
from starfish_mpack_wire.errors import MPackError
from starfish_mpack_wire.working_tree._tree import WorkingTree

__all__ = ("add_commands",)

AllowEmpty = Annotated[bool, typer.Option("--allow-empty", help="Also without changes.")]

SHORT = 19
"""``sha256:`` and twelve digits: what people compare by eye."""


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (init, commit, log, status, branch, checkout, tag):
        app.command()(command)


def init(folder: Annotated[Path, typer.Argument(help="Made when it is missing.")] = Path()) -> None:
    """Make a folder a working tree."""
    folder.mkdir(parents=True, exist_ok=True)
    with WorkingTree.create(folder) as tree:
        note(f"A new history in {terminal_line(str(tree.store.path))}, on branch main.")


def commit(
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="What changed, and why.")
    ] = None,
    author: Annotated[str | None, typer.Option(help='"Name <address>".')] = None,
    allow_empty: AllowEmpty = False,  # noqa: FBT002 - a flag
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Record the folder as it is."""
    with open_tree() as tree:
        text = message or tree.merge_message()
        if text is None:
            raise typer.BadParameter("say what changed, and why", param_hint="--message")
        record = tree.commit(text, author=author_of(tree.store, author), allow_empty=allow_empty)
        if record is None:
            raise MPackError("nothing changed since the last commit; --allow-empty commits anyway")
        if as_json:
            print_json(record)
        else:
            print_line(record["commit_id"])


def log(
    start: Annotated[str, typer.Argument(help="A branch, tag or commit.")] = "HEAD",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1)] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """List commits, newest first."""
    with open_tree() as tree:
        store = tree.store
        if start == "HEAD" and tree.head() is None:
            if as_json:
                print_json([])
            return
        records: list[Any] = []
        for number, row in enumerate(store.log([resolve(store, start)])):
            if limit is not None and number >= limit:
                break
            record = store.commit(row.commit_id)
            if as_json:
                records.append(record)
                continue
            print_line(f"commit {record['commit_id']}")
            print_line(f"Author: {terminal_line(record['author'])}")
            print_line(f"Date:   {terminal_line(record['committed_at'])}")
            indented = terminal_text(record["message"]).rstrip().replace("\n", "\n    ")
            print_line(f"\n    {indented}\n")
        if as_json:
            print_json(records)


def status(as_json: Json = False) -> None:  # noqa: FBT002
    """Compare the folder with the last commit."""
    with open_tree() as tree:
        found = tree.status()
    if as_json:
        print_json({**asdict(found), "clean": found.clean})
        return
    print_line(
        f"On branch {terminal_line(found.branch)}" + ("" if found.head else ", no commit yet")
    )
    for word, paths in (
        ("new", found.added),
        ("changed", found.modified),
        ("removed", found.removed),
        ("new directory", found.added_directories),
    ):
        for path in paths:
            print_line(f"  {word}: {terminal_line(path)}")
    for path, reason in sorted(found.unsupported.items()):
        print_line(f"  cannot be committed: {terminal_line(path)} ({reason})")
    if found.clean and not found.unsupported:
        print_line("Nothing changed.")


def branch(
    name: Annotated[
        str | None, typer.Argument(help="A new branch; without it, all are listed.")
    ] = None,
    start: Annotated[str, typer.Argument(help="Where it begins.")] = "HEAD",
    delete: Annotated[bool, typer.Option("--delete", "-d", help="Remove it instead.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """List, make or remove branches."""
    with open_tree() as tree:
        store = tree.store
        if name is None:
            current, branches = store.state().branch, store.branches()
            if as_json:
                print_json({"current": current, "branches": branches})
                return
            for each, at in branches.items():
                mark = "*" if each == current else " "
                print_line(f"{mark} {terminal_line(each)} {at[:SHORT]}")
            return
        if delete:
            if name == store.state().branch:
                raise MPackError(f"{name} is the current branch; check out another one first")
            store.move_branch(name, None, expected=resolve(store, name))
            return
        store.move_branch(name, resolve(store, start), expected=None)


def tag(
    name: Annotated[
        str | None, typer.Argument(help="A new tag; without it, all are listed.")
    ] = None,
    at: Annotated[str, typer.Argument(help="The commit that it names.")] = "HEAD",
    delete: Annotated[bool, typer.Option("--delete", "-d", help="Remove it instead.")] = False,  # noqa: FBT002
    force: Annotated[bool, typer.Option("--force", "-f", help="Move a tag that exists.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """List, make, move or remove tags."""
    with open_tree() as tree:
        tags = tree.store.tags()
        if name is not None:
            here = tags.get(name)
            if delete:
                if here is None:
                    raise MPackError(f"there is no tag {name}")
                tree.store.move_tag(name, None, expected=here)
                return
            if here is not None and not force:
                raise MPackError(f"the tag {name} exists; --force moves it, --delete removes it")
            tree.store.move_tag(name, resolve(tree.store, at), expected=here)
            return
        if as_json:
            print_json(tags)
            return
        for each, commit_id in tags.items():
            print_line(f"{terminal_line(each)} {commit_id[:SHORT]}")


def checkout(
    name: Annotated[str, typer.Argument(help="The branch to go to.")],
    start: Annotated[str | None, typer.Argument(help="With -b: where the branch begins.")] = None,
    create: Annotated[bool, typer.Option("-b", "--create", help="Make the branch.")] = False,  # noqa: FBT002
    force: Force = False,  # noqa: FBT002
) -> None:
    """Go to a branch: its files are in the folder, and commits go to it."""
    with open_tree() as tree:
        store = tree.store
        begin: str | None = None
        if create:
            begin = resolve(store, start or "HEAD")
        elif start is not None:
            raise MPackError("a second name is where a new branch begins: add -b")
        elif name not in store.branches():
            begin = _seen_elsewhere(tree, name)
        with progress_bars() as show:
            tree.checkout(
                name,
                start=begin,
                force=force,
                fetch_blobs=blobs_from(store),
                on_progress=count_bar(show),
            )
        note(f"On branch {terminal_line(name)}.")


def _seen_elsewhere(tree: WorkingTree, name: str) -> str | None:
    """Where the one remote that has this branch has it."""
    refs = tree.store.state().refs
    found = {
        commit
        for ref, commit in refs.items()
        if ref.startswith("remotes/") and ref.split("/", 2)[2] == name
    }
    if len(found) == 1:
        return found.pop()
    if f"tags/{name}" in refs or name.startswith("sha256:"):
        raise MPackError(
            f"{name} is not a branch; to begin one there: mpack checkout -b NAME {name}"
        )
    return None

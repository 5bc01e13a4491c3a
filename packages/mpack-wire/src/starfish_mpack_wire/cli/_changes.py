"""``switch, merge, diff, show, restore, reset``: looking at changes, bringing them together, going back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from starfish_mpack_wire._model.changes import Change, changes_between, text_of_change
from starfish_mpack_wire._model.entries import Entry
from starfish_mpack_wire._model.object_ids import blob_id
from starfish_mpack_wire._terminal_text import terminal_line, terminal_text
from starfish_mpack_wire.cli._console import count_bar, note, print_json, print_line, progress_bars
from starfish_mpack_wire.cli._options import (
    Force,
    Json,
    author_of,
    blobs_from,
    open_tree,
    resolve,
)
from starfish_mpack_wire.errors import MPackError, ObjectNotFoundError
from starfish_mpack_wire.working_tree._tree import WorkingTree

__all__ = ("add_commands",)

CONFLICT = 4
"""Exit status of a merge that is not finished."""
SHORT = 19

Start = Annotated[str, typer.Argument(help="A branch, tag or commit.")]
Paths = Annotated[list[str], typer.Argument(help="Files or folders, from the top of the tree.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (switch, merge, diff, show, restore, reset):
        app.command()(command)


def switch(
    name: Annotated[str, typer.Argument(help="The branch to go to.")],
    create: Annotated[bool, typer.Option("-c", "--create", help="Make the branch here.")] = False,  # noqa: FBT002
    force: Force = False,  # noqa: FBT002
) -> None:
    """Go to a branch that is there, or to a new one with -c."""
    with open_tree() as tree:
        if not create and name not in tree.store.branches():
            raise ObjectNotFoundError(f"the branch {name}; -c makes it")
        with progress_bars() as show_bar:
            tree.checkout(
                name,
                start=resolve(tree.store, "HEAD") if create else None,
                force=force,
                fetch_blobs=blobs_from(tree.store),
                on_progress=count_bar(show_bar),
            )
        note(f"On branch {terminal_line(name)}.")


def merge(
    name: Annotated[str | None, typer.Argument(help="A branch, tag or commit.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m")] = None,
    author: Annotated[str | None, typer.Option(help='"Name <address>".')] = None,
    abort: Annotated[  # noqa: FBT002
        bool, typer.Option("--abort", help="Give up the merge that is on its way.")
    ] = False,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Bring the changes of another branch into this one; exit status 4 when both changed the same."""
    with open_tree() as tree:
        if abort:
            if name is not None or tree.merge_message() is None:
                raise MPackError("there is no merge to give up: --abort stands alone")
            tree.reset(resolve(tree.store, "HEAD"), hard=True)
            note("The merge was given up; the folder is as the last commit.")
            return
        if name is None:
            raise MPackError("name the branch, tag or commit to merge, or give --abort")
        result = tree.merge(
            resolve(tree.store, name),
            author=author_of(tree.store, author),
            message=message or f"Merge {name}",
            fetch_blobs=blobs_from(tree.store),
        )
    if as_json:
        print_json(
            {
                "result": result.kind,
                "commit_id": result.commit_id,
                "conflicts": result.conflicts,
                "files": result.files,
            }
        )
    elif result.conflicts:
        for path in result.conflicts:
            print_line(f"  changed on both sides: {terminal_line(path)}")
        for path in result.files:
            print_line(f"  look at and remove: {terminal_line(path)}")
        note("Make these files as they shall be, then: mpack commit (or mpack merge --abort)")
    else:
        print_line(f"{result.kind} {result.commit_id}")
    if result.conflicts:
        raise typer.Exit(CONFLICT)


def diff(
    start: Annotated[
        str | None, typer.Argument(help="Compare this commit; without it, the current one.")
    ] = None,
    end: Annotated[str | None, typer.Argument(help="With this; without it, the folder.")] = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Show what differs between two commits, or between a commit and the folder."""
    with open_tree() as tree:
        store = tree.store
        at = tree.head() if start is None else resolve(store, start)
        before = store.tree_of(at).manifest
        if end is not None:
            after: Mapping[str, Entry] = store.tree_of(resolve(store, end)).manifest
            changes = changes_between(before, after)
            _print_changes(tree, changes, _stored(tree), as_json=as_json)
            return
        after = tree.contents().files
        changes = changes_between(before, after)
        read = _in_folder(tree, {each.path: each.after for each in changes})
        _print_changes(tree, changes, read, as_json=as_json)


def show(
    name: Annotated[
        str, typer.Argument(help="A branch, tag or commit; NAME:PATH for the bytes of one file.")
    ] = "HEAD",
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Show a commit with its changes, or the file of a commit."""
    with open_tree() as tree:
        store = tree.store
        commit, colon, path = name.partition(":")
        if colon and commit != "sha256":
            tree.show_file(resolve(store, commit), path, typer.get_binary_stream("stdout"))
            return
        if commit == "sha256" and path.count(":"):
            digits, _, path = path.partition(":")
            tree.show_file(resolve(store, digits), path, typer.get_binary_stream("stdout"))
            return
        record = store.commit(resolve(store, name))
        parents = record["parent_ids"]
        held = bool(parents) and store.has_commit(parents[0])
        before = store.tree_of(parents[0] if held else None).manifest
        changes = changes_between(before, store.tree_of(record["commit_id"]).manifest)
        if not as_json:
            print_line(f"commit {record['commit_id']}")
            for parent in parents[1:] and parents:
                print_line(f"Parent: {parent}")
            print_line(f"Author: {terminal_line(record['author'])}")
            print_line(f"Date:   {terminal_line(record['committed_at'])}")
            indented = terminal_text(record["message"]).rstrip().replace("\n", "\n    ")
            print_line(f"\n    {indented}\n")
        _print_changes(tree, changes, _stored(tree), as_json=as_json, commit=record)


def restore(
    paths: Paths,
    source: Annotated[str, typer.Option("--source", "-s", help="The commit.")] = "HEAD",
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Have files as they are in a commit; changes made to them since are gone."""
    with open_tree() as tree:
        done = tree.restore(
            [_from_the_top(tree, each) for each in paths],
            source=resolve(tree.store, source),
            fetch_blobs=blobs_from(tree.store),
        )
    if as_json:
        print_json(done)
    else:
        for path in done:
            print_line(terminal_line(path))


def reset(
    to: Start = "HEAD",
    hard: Annotated[bool, typer.Option("--hard", help="Destroy what no commit holds.")] = False,  # noqa: FBT002
) -> None:
    """Point the current branch at another commit; the folder stays as it is, unless --hard."""
    with open_tree() as tree:
        commit = resolve(tree.store, to)
        with progress_bars() as show_bar:
            tree.reset(
                commit,
                hard=hard,
                fetch_blobs=blobs_from(tree.store),
                on_progress=count_bar(show_bar),
            )
        note(f"{terminal_line(tree.store.state().branch)} is at {commit[:SHORT]}.")


def _from_the_top(tree: WorkingTree, path: str) -> str:
    """A path as a snapshot has it, from one that was typed in the folder where the command runs."""
    place = Path.cwd() / path
    top = tree.root.resolve()
    try:
        # Only the part above the last name is looked at: the last one may be a link.
        relative = (place.parent.resolve() / place.name).relative_to(top)
    except ValueError:
        raise MPackError(f"{path} is not below {top}") from None
    text = relative.as_posix()
    return "" if text == "." else text


def _stored(tree: WorkingTree) -> tuple[Callable[[str], int], Callable[[str], bytes]]:
    return tree.store.blob_length, tree.store.blob


def _in_folder(
    tree: WorkingTree, after: Mapping[str, Entry | None]
) -> tuple[Callable[[str], int], Callable[[str], bytes]]:
    """Blobs of which some are in the folder only."""
    paths = {
        each if isinstance(each, str) else each["id"]: path
        for path, each in after.items()
        if each is not None
    }

    def length(object_id: str) -> int:
        if tree.store.has_blob(object_id):
            return tree.store.blob_length(object_id)
        return (tree.root / paths[object_id]).lstat().st_size

    def read(object_id: str) -> bytes:
        if tree.store.has_blob(object_id):
            return tree.store.blob(object_id)
        content = tree.read_file(paths[object_id])
        if blob_id(content) != object_id:
            raise MPackError(f"{paths[object_id]} changed while it was read")
        return content

    return length, read


def _print_changes(
    tree: WorkingTree,
    changes: list[Change],
    reading: tuple[Callable[[str], int], Callable[[str], bytes]],
    *,
    as_json: bool,
    commit: Any = None,
) -> None:
    if as_json:
        listed = [
            {"path": each.path, "change": each.word, "before": each.before, "after": each.after}
            for each in changes
        ]
        print_json(listed if commit is None else {"commit": commit, "changes": listed})
        return
    length, read = reading
    fetch = blobs_from(tree.store)
    for each in changes:
        if fetch is not None:
            named = {
                entry if isinstance(entry, str) else entry["id"]
                for entry in (each.before, each.after)
                if entry is not None and (isinstance(entry, str) or entry["kind"] != "gitlink")
            }
            if tree.store.missing("blob", named):
                fetch(named)
        text = b"".join(text_of_change(each, length, read, read))
        print_line(terminal_text(text.decode("utf-8", "replace")).rstrip("\n"))

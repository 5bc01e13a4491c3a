"""``remote, clone, fetch, pull, push``: a folder and a server."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from starfish_mpack_wire._model.ref_names import check_ref_name
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire._terminal_text import terminal_line
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
    blobs_from,
    client_for,
    open_tree,
    remotes_of,
)
from starfish_mpack_wire.client._transport import check_url
from starfish_mpack_wire.client._wire_client import FetchResult, PushResult
from starfish_mpack_wire.errors import MPackError, RemoteNotFoundError, RemoteUnavailableError
from starfish_mpack_wire.working_tree._name_folding import STORE_FOLDER
from starfish_mpack_wire.working_tree._tree import WorkingTree

__all__ = ("add_commands",)

ORIGIN = "origin"
KEPT_BRANCH = "git-import"
"""The branch that `import-git` keeps odd objects on."""
CLONING = "cloning"
"""Names, among the settings, the address that an unfinished clone is made from."""

Remote = Annotated[str, typer.Argument(help="The name of a remote.")]
Depth = Annotated[int | None, typer.Option(min=1, help="Only so many commits of each branch.")]
Filter = Annotated[
    str | None,
    typer.Option("--filter", help="blob:none or blob:limit=N: larger files come when needed."),
]

ForcePush = Annotated[
    bool, typer.Option("--force", "-f", help="Also where the server would lose commits.")
]

remote_commands = typer.Typer(help="List, add or remove servers.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.add_typer(remote_commands, name="remote")
    for command in (clone, fetch, pull, push):
        app.command()(command)


@remote_commands.command("add")
def remote_add(name: str, url: str) -> None:
    """Note the address of a repository under a name."""
    check_ref_name(name)
    address = check_url(url.rstrip("/"), "the address of a repository")
    with open_tree() as tree:
        if name in remotes_of(tree.store):
            raise MPackError(f"there is a remote {name} already; remove it first")
        _note_remote(tree.store, name, address)


@remote_commands.command("remove")
def remote_remove(name: str) -> None:
    """Forget a remote; fetched commits stay."""
    with open_tree() as tree:
        if name not in remotes_of(tree.store):
            raise MPackError(f"there is no remote {name}")

        def without(settings: dict[str, Any]) -> dict[str, Any]:
            remotes: dict[str, Any] = settings["remotes"]
            rest = {each: remote for each, remote in remotes.items() if each != name}
            return settings | {"remotes": rest}

        tree.store.change_settings(without)


@remote_commands.command("list")
def remote_list(as_json: Json = False) -> None:  # noqa: FBT002 - a flag
    """List the remotes."""
    with open_tree() as tree:
        remotes = remotes_of(tree.store)
    if as_json:
        print_json(remotes)
        return
    for name, url in sorted(remotes.items()):
        print_line(f"{terminal_line(name)} {terminal_line(url)}")


def _note_remote(store: LocalStore, name: str, url: str) -> None:
    def added(settings: dict[str, Any]) -> dict[str, Any]:
        remotes = settings.get("remotes")
        others = cast("dict[str, Any]", remotes) if isinstance(remotes, dict) else {}
        return settings | {"remotes": others | {name: {"url": url}}}

    store.change_settings(added)


def clone(  # noqa: PLR0917 - the command line gives them by name
    url: Annotated[str, typer.Argument(help="The address of a repository.")],
    folder: Annotated[Path | None, typer.Argument(help="Must be empty or missing.")] = None,
    branch: Annotated[
        str | None, typer.Option("--branch", "-b", help="Go on with this one.")
    ] = None,
    depth: Depth = None,
    blob_filter: Filter = None,
    path: Annotated[
        list[str] | None, typer.Option(help="Files elsewhere come when needed; repeatable.")
    ] = None,
    as_json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Copy a repository into a new folder; its server is called origin there."""
    url = check_url(url.rstrip("/"), "the address of a repository")
    target = folder if folder is not None else Path(url.rpartition("/")[2] or "clone")
    fresh = not target.exists() or not any(target.iterdir())
    if not fresh and not _can_go_on(target, url):
        raise MPackError(f"{target} is not empty")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with LocalStore(target / STORE_FOLDER) as store:
            store.change_settings(lambda settings: settings | {CLONING: url})
            _note_remote(store, ORIGIN, url)
        with (
            WorkingTree(target) as tree,
            client_for(tree.store, ORIGIN) as client,
            progress_bars() as show,
        ):
            result = client.clone(
                tree.store,
                branch=branch,
                depth=depth,
                blob_filter=blob_filter,
                paths=path or (),
                on_progress=show,
            )
            tree.write_head(fetch_blobs=blobs_from(tree.store, ORIGIN), on_progress=count_bar(show))
            tree.store.change_settings(
                lambda settings: {key: each for key, each in settings.items() if key != CLONING}
            )
    except BaseException as error:
        _end_clone(target, error, fresh=fresh)
        raise
    if as_json:
        print_json(_numbers_of(result))
    else:
        note(f"Cloned into {terminal_line(str(target))}: {_words_of(result)}.")


def _end_clone(target: Path, error: BaseException, *, fresh: bool) -> None:
    """Say how much of a clone came; remove the folder only when nothing came at all."""
    store = target / STORE_FOLDER
    came = sum(
        path.stat().st_size
        for folder in ("packs", "incoming")
        for path in (store / folder).glob("*")
        if path.is_file()
    )
    if came:
        note(f"{came} bytes came and are kept: the same command goes on with them.")
    elif fresh and not isinstance(error, RemoteUnavailableError):
        shutil.rmtree(target, ignore_errors=True)


def _can_go_on(target: Path, url: str) -> bool:
    """Whether a clone of this address was killed here."""
    if not (target / STORE_FOLDER).is_dir():
        return False
    with LocalStore(target / STORE_FOLDER) as store:
        settings = store.settings()
        if settings or store.state().refs:
            return settings.get(CLONING) == url
        return all(each.name == STORE_FOLDER for each in target.iterdir())


def fetch(
    remote: Remote = ORIGIN,
    branches: Annotated[list[str] | None, typer.Argument(help="Only these branches.")] = None,
    depth: Depth = None,
    as_json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Get what a server has; no branch of this folder moves."""
    with open_tree() as tree, client_for(tree.store, remote) as client, progress_bars() as show:
        result = client.fetch(
            tree.store, remote=remote, branches=branches or None, depth=depth, on_progress=show
        )
    if as_json:
        print_json(_numbers_of(result))
    else:
        note(f"Fetched {_words_of(result)}.")


def pull(
    remote: Remote = ORIGIN,
    branch: Annotated[str | None, typer.Argument(help="The same name when left out.")] = None,
    force: Force = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Fetch, and go on where the server's branch is; with --force also where that drops commits made here."""
    with open_tree() as tree, client_for(tree.store, remote) as client, progress_bars() as show:
        name = branch or tree.store.state().branch
        result = client.fetch(tree.store, remote=remote, on_progress=show)
        there = tree.store.remote_branches(remote).get(name)
        if there is None:
            raise RemoteNotFoundError(f"{remote} has no branch {name}")
        moved = tree.fast_forward(
            there,
            force=force,
            fetch_blobs=blobs_from(tree.store, remote),
            on_progress=count_bar(show),
        )
        head = tree.head()
    if as_json:
        print_json({**_numbers_of(result), "moved": moved, "head": head})
    else:
        note(
            f"Fetched {_words_of(result)}; {'now at ' + str(head) if moved else 'nothing to move'}."
        )


def _delete_on_server(remote: str, name: str | None) -> None:
    if name is None:
        raise MPackError("name the branch or tag to delete on the server")
    with open_tree() as tree, client_for(tree.store, remote) as client:
        refs = client.refs()
        if name in refs.branches:
            client.delete_refs(tree.store, branches=[name], remote=remote)
        elif name in refs.tags:
            client.delete_refs(tree.store, tags=[name], remote=remote)
        else:
            raise MPackError(f"{remote} has neither a branch nor a tag {name}")
    note(f"Deleted {terminal_line(name)} of {terminal_line(remote)}.")


def push(  # noqa: PLR0917 - the command line gives them by name
    remote: Remote = ORIGIN,
    branch: Annotated[str | None, typer.Argument(help="The current one when left out.")] = None,
    force: ForcePush = False,  # noqa: FBT002 - a flag
    tags: Annotated[bool, typer.Option("--tags", help="All tags as well.")] = False,  # noqa: FBT002
    every: Annotated[bool, typer.Option("--all", help="All branches and tags, at once.")] = False,  # noqa: FBT002
    delete: Annotated[  # noqa: FBT002
        bool, typer.Option("--delete", "-d", help="Delete the branch or tag of the server.")
    ] = False,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Give a server the commits it lacks, and move its branches there."""
    if delete:
        _delete_on_server(remote, branch)
        return
    with open_tree() as tree, client_for(tree.store, remote) as client, progress_bars() as show:
        store = tree.store
        current = branch or store.state().branch
        names = [current]
        if every:
            names += [each for each in store.branches() if each != current]
        elif KEPT_BRANCH in store.branches() and current != KEPT_BRANCH:
            # What came from git is whole only with it.
            names.append(KEPT_BRANCH)
        result = client.push_branches(
            store,
            names,
            remote=remote,
            force=force,
            tags=list(store.tags()) if tags or every else (),
            on_progress=show,
        )
    if as_json:
        print_json(asdict(result))
    else:
        note(_words_of_push(result))


def _words_of_push(result: PushResult) -> str:
    moved = terminal_line(", ".join(result.branches))
    tags = f"{result.tags_written} tag{'s' * (result.tags_written != 1)}"
    if not result.branches and not result.tags_written:
        return f"The server has {terminal_line(result.branch)} at {result.head} already."
    made = [f"Moved {moved}"] if moved else []
    made += [f"made {tags}" if made else f"Made {tags}"] if result.tags_written else []
    return (
        f"{' and '.join(made)} on the server: {result.commits_written} commits, "
        f"{result.blobs_written} blobs, {result.size_bytes} bytes."
    )


def _numbers_of(result: FetchResult) -> dict[str, object]:
    return {
        "commits_written": result.commits_written,
        "snapshots_written": result.snapshots_written,
        "blobs_written": result.blobs_written,
        "size_bytes": result.size_bytes,
        "branches": dict(result.refs.branches),
        "tags": dict(result.refs.tags),
    }


def _words_of(result: FetchResult) -> str:
    return (
        f"{result.commits_written} commits, {result.blobs_written} blobs, {result.size_bytes} bytes"
    )

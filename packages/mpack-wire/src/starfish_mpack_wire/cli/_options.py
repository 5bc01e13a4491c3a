"""Options that several commands have, and what they stand for."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from starfish_mpack_wire._model.object_ids import is_object_id
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire._store.state import StoreState
from starfish_mpack_wire.client._wire_client import WireClient
from starfish_mpack_wire.errors import MPackError, ObjectNotFoundError, WireError
from starfish_mpack_wire.working_tree._tree import FetchBlobs, WorkingTree

__all__ = (
    "Force",
    "Json",
    "author_of",
    "blobs_from",
    "client_for",
    "open_tree",
    "remotes_of",
    "resolve",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Also where something would be lost.")]

SHORTEST_PREFIX = 7


def open_tree() -> WorkingTree:
    """The working tree that the command was called in."""
    return WorkingTree.find(Path.cwd())


def author_of(store: LocalStore, given: str | None) -> str:
    """Who commits: the option, ``MPACK_AUTHOR``, the settings, the user's name."""
    found = given or os.environ.get("MPACK_AUTHOR") or store.settings().get("author")
    if isinstance(found, str) and found:
        return found
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def remotes_of(store: LocalStore) -> dict[str, str]:
    """Name to address."""
    return {name: str(remote.get("url")) for name, remote in _remotes(store).items()}


def _remotes(store: LocalStore) -> dict[str, dict[str, Any]]:
    remotes = store.settings().get("remotes")
    if not isinstance(remotes, dict):
        return {}
    found = cast("dict[str, Any]", remotes)
    return {name: remote for name, remote in found.items() if isinstance(remote, dict)}


def client_for(store: LocalStore, remote: str) -> WireClient:
    """A client for a remote of the settings; the token is ``MPACK_TOKEN`` or that of the settings.

    Raises:
        WireError: there is no such remote.
    """
    settings = _remotes(store).get(remote)
    if settings is None or not isinstance(settings.get("url"), str):
        known = ", ".join(sorted(remotes_of(store))) or "none"
        raise WireError(f"there is no remote {remote!r} (known: {known}); see mpack remote add")
    token = os.environ.get("MPACK_TOKEN") or settings.get("token") or store.settings().get("token")
    return WireClient(settings["url"], token=token or None)


def blobs_from(store: LocalStore, remote: str | None = None) -> FetchBlobs | None:
    """How a partial clone gets blobs that it needs."""
    name = remote or next(iter(remotes_of(store)), None)
    if name is None or not store.state().partial:
        return None

    def fetch(object_ids: object) -> None:
        with client_for(store, name) as client:
            client.fetch_blobs(store, list(object_ids))  # type: ignore[call-overload]

    return fetch


def resolve(store: LocalStore, name: str) -> str:
    """The commit that a name stands for: branch, tag, ``remote/branch``, id or the start of one.

    Raises:
        MPackError: none, or more than one.
    """
    state: StoreState = store.state()
    if name == "HEAD":
        name = state.branch
    for prefix in ("heads/", "tags/", "remotes/"):
        found = state.refs.get(prefix + name)
        if found is not None:
            return found
    if is_object_id(name) and store.has_commit(name):
        return name
    digits = name.removeprefix("sha256:")
    if len(digits) >= SHORTEST_PREFIX:
        matches = [each for each in store.catalogue.ids("commit") if each[7:].startswith(digits)]
        if len(matches) == 1:
            return matches[0]
    raise UnknownNameError(name)


class UnknownNameError(ObjectNotFoundError):
    """A name that stands for no commit."""

    def __init__(self, name: str) -> None:
        MPackError.__init__(
            self,
            f"{name!r:.200} is not a branch, not a tag, and not the beginning of one commit's id",
        )
        self.object_id = name

"""The branch that holds what git has and a history of ours has no place for.

Its snapshot has a file ``refs``, a line for each ref that is not a plain branch or tag of a commit: the id it has in
git and its name; and files ``objects/TYPE/ID`` with the raw bytes of tag objects, of odd trees, and of trees and
blobs that a ref names. Commits of such refs are parents of its commits. So everything of git travels as a branch
does, and an export needs nothing but the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from starfish_mpack_wire._model.entries import blob_of
from starfish_mpack_wire._store.local_store import LocalStore

__all__ = ("KEPT_BRANCH", "KeptObjects", "encode_refs", "object_path", "read_kept")

KEPT_BRANCH = "git-import"
"""Name of the branch."""
_REFS = "refs"


def object_path(kind: str, sha: str) -> str:
    """Return the path of an object in the snapshot.

    Examples:
        >>> object_path("tree", "00ff")
        'objects/tree/00ff'
    """
    return f"objects/{kind}/{sha}"


def encode_refs(refs: Mapping[bytes, str]) -> bytes:
    """Return the file of refs: name to id of git."""
    return b"".join(b"%s %s\n" % (refs[name].encode(), name) for name in sorted(refs))


@dataclass(frozen=True, slots=True)
class KeptObjects:
    """Refs and raw objects of git, as the store has them."""

    head: str | None = None
    """The commit of the branch in this store; ``None`` without one."""
    refs: Mapping[bytes, str] = field(default_factory=dict[bytes, str])
    """Name of git to id of git."""
    objects: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """Type and id of git to blob id."""
    tips: tuple[str, ...] = ()
    """Commits of ours whose ancestors are the commits that the refs lead to."""


def read_kept(store: LocalStore) -> KeptObjects:
    """Return what the branch holds, here or as remotes had it; the one of this store counts first.

    Raises:
        ObjectNotFoundError: the store lacks a part of it.
    """
    refs = store.state().refs
    own = refs.get(f"heads/{KEPT_BRANCH}")
    tips = [own] if own is not None else []
    tips += [
        at
        for name, at in sorted(refs.items())
        if name.startswith("remotes/") and name.split("/", 2)[2] == KEPT_BRANCH and at not in tips
    ]
    names: dict[bytes, str] = {}
    objects: dict[tuple[str, str], str] = {}
    for tip in reversed(tips):
        tree = store.tree_of(tip)
        entry = tree.get(_REFS)
        blob = blob_of(entry) if entry is not None else None
        if blob is not None:
            names |= _decode_refs(store.blob(blob).splitlines())
        for path, entry in tree.files("objects"):
            _, kind, sha = path.split("/")
            blob = blob_of(entry)
            if blob is not None:
                objects[kind, sha] = blob
    return KeptObjects(own, names, objects, tuple(tips))


def _decode_refs(lines: Iterable[bytes]) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for line in lines:
        sha, _, name = line.partition(b" ")
        if name:
            found[name] = sha.decode("ascii", "replace")
    return found

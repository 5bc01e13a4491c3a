"""History in one file, for where there is no server: a pack whose tags are the full names of refs.

A bundle is a pack like any other, ``heads/main`` and ``tags/v1`` are the names of its tags, and it may build
on commits that the receiver must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from starfish_disk.durable import sync_file, sync_folder
from starfish_mpack_wire._model.ref_names import check_ref_name
from starfish_mpack_wire._pack.reader import MPackReader
from starfish_mpack_wire._store.apply import ApplyResult, apply_mpack
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire._store.pack_store import BRANCHES, TAGS
from starfish_mpack_wire._store.packing import plan_for, write_pack
from starfish_mpack_wire._store.refusals import refuse_as_store_error
from starfish_mpack_wire._store.state import StoreState
from starfish_mpack_wire._store.verification import PackVerification
from starfish_mpack_wire.errors import ObjectNotFoundError, StoreError

__all__ = ("BundleInfo", "create_bundle", "read_bundle", "unbundle", "verify_bundle")


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """What a bundle holds."""

    mpack_id: str
    branches: dict[str, str]
    """Name to commit id."""
    tags: dict[str, str]
    """Name to commit id."""
    commit_count: int
    snapshot_count: int
    blob_count: int
    size_bytes: int

    def as_map(self) -> dict[str, object]:
        """This as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def create_bundle(
    store: LocalStore,
    path: str | PathLike[str],
    *,
    branches: Collection[str] | None = None,
    have: Collection[str] = (),
) -> BundleInfo:
    """Write branches and tags into a file; on disk when this returns.

    Args:
        store: where they are.
        path: the file; one that is there is replaced when the new one is whole.
        branches: names; all branches and all tags when left out.
        have: commits that the receiver holds with all that they need.

    Raises:
        ObjectNotFoundError: no such branch, or the store lacks something.
        StoreError: there is nothing to write, or the disk is full.
    """
    refs = {
        name: at for name, at in store.state().refs.items() if name.startswith((BRANCHES, TAGS))
    }
    if branches is not None:
        for name in branches:
            if BRANCHES + name not in refs:
                raise ObjectNotFoundError(f"the branch {name}")
        refs = {BRANCHES + name: refs[BRANCHES + name] for name in branches}
    if not refs:
        raise StoreError("there is no branch or tag to put into a bundle")
    target = Path(path)
    temporary = target.with_name(f".{target.name}.tmp")
    plan = plan_for(store, refs.values(), have)
    try:
        write_pack(store, plan, temporary, tags=refs)
        with refuse_as_store_error("cannot write", target):
            sync_file(temporary)
            temporary.replace(target)
            sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return read_bundle(target)


def read_bundle(path: str | PathLike[str]) -> BundleInfo:
    """Look at the form and the refs of a bundle; its contents are not verified.

    Raises:
        MPackFormatError: it is not a pack, or no bundle.
        StoreError: it cannot be read.
    """
    with refuse_as_store_error("cannot read", Path(path)), closing(MPackReader(path)) as reader:
        found = {tag["name"]: tag["commit_id"] for tag in reader.tags()}
        return BundleInfo(
            reader.mpack_id,
            _named(found, BRANCHES),
            _named(found, TAGS),
            reader.commit_count,
            reader.snapshot_count,
            reader.blob_count,
            reader.size_bytes,
        )


def _named(refs: dict[str, str], prefix: str) -> dict[str, str]:
    return {
        check_ref_name(name.removeprefix(prefix)): commit
        for name, commit in refs.items()
        if name.startswith(prefix)
    }


def verify_bundle(store: LocalStore, path: str | PathLike[str]) -> BundleInfo:
    """Verify all of a bundle, and that the store has what it builds on; nothing is taken in.

    Raises:
        MPackFormatError: it is not a pack.
        MPackIntegrityError: it is damaged.
        IncompleteHistoryError: it builds on something that the store does not hold.
    """
    with refuse_as_store_error("cannot read", Path(path)), closing(MPackReader(path)) as reader:
        PackVerification(store, reader, strict=True).run()
    return read_bundle(path)


def unbundle(
    store: LocalStore,
    path: str | PathLike[str],
    *,
    remote: str = "bundle",
    on_progress: Callable[[int, int], None] | None = None,
) -> ApplyResult:
    """Take in a bundle; its branches are noted as ``remotes/<remote>/<branch>``, as after a fetch.

    A tag that the store has already stays where it is.

    Raises:
        MPackError: as `verify_bundle`; the store is as before.
        StoreError: the disk is full.
    """
    check_ref_name(remote)
    info = read_bundle(path)
    result = apply_mpack(store, path, on_progress=on_progress)
    for commit in (*info.branches.values(), *info.tags.values()):
        if not store.has_commit(commit):
            raise ObjectNotFoundError(commit)

    def noted(state: StoreState) -> StoreState:
        refs = {f"{TAGS}{name}": commit for name, commit in info.tags.items()} | dict(state.refs)
        refs |= {f"remotes/{remote}/{name}": commit for name, commit in info.branches.items()}
        return replace(state, refs=refs)

    store.change_state(noted)
    return result

"""Objects by id, and refs that move by compare-and-swap, in one folder of packs."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from starfish_mpack_wire.errors import ObjectNotFoundError, StoreError
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.negotiation.delta import is_ancestor
from starfish_mpack_wire.object_ids import check_object_id
from starfish_mpack_wire.pack.reader import MPackReader
from starfish_mpack_wire.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire.ref_names import check_ref_name
from starfish_mpack_wire.snapshot_tree import SnapshotTree
from starfish_mpack_wire.store.catalogue import Catalogue, CommitRow, ObjectKind
from starfish_mpack_wire.store.durable import (
    hold_lock,
    refuse_as_store_error,
    write_atomically,
)
from starfish_mpack_wire.store.history import StoreGraph, newest_first, run_at_once
from starfish_mpack_wire.store.incoming import IncomingFolder
from starfish_mpack_wire.store.indexing import PackListing, add_packs
from starfish_mpack_wire.store.packs import PackFolder
from starfish_mpack_wire.store.state import StateFile, StoreState

__all__ = ("BRANCHES", "TAGS", "PackStore")

_T = TypeVar("_T")

FORMAT = "starfish mpack store 1\n"
TREES_KEPT = 64
BRANCHES, TAGS = "heads/", "tags/"


class PackStore:
    """Objects by id and refs by name; see `LocalStore`, which adds what looks after all of them."""

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        limits: Limits | None = None,
        lock_timeout_s: float = 30.0,
    ) -> None:
        self.path = Path(path)
        """The folder."""
        self.limits = limits or Limits()
        """Caps for packs."""
        self._make()
        self._lock_timeout_s = lock_timeout_s
        self.incoming = IncomingFolder(self.path / "incoming")
        """Files on their way into the store."""
        self.packs = PackFolder(self.path / "packs", limits=self.limits)
        """The packs."""
        self._state = StateFile(
            self.path / "state.json", self.path / "lock", lock_timeout_s=lock_timeout_s
        )
        self.catalogue = Catalogue(self.path / "catalogue.sqlite")
        """Which pack holds what."""
        self._trees: OrderedDict[str, SnapshotTree] = OrderedDict()
        self._trees_lock = threading.Lock()
        self._packs_seen_ns = -1
        try:
            with refuse_as_store_error("cannot use", self.path):
                self.incoming.sweep()
            self.refresh()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        format_file = self.path / "format"
        with refuse_as_store_error("cannot open the store", self.path):
            try:
                found = format_file.read_text()
            except FileNotFoundError:
                self.path.mkdir(parents=True, exist_ok=True)
                # A making that was cut short left these and nothing else.
                strangers = {each.name for each in self.path.iterdir()} - {"packs", "incoming"}
                if any(not name.startswith(".format.") for name in strangers):
                    raise StoreError(
                        f"{self.path} is no store and not empty: it has {min(strangers)}"
                    ) from None
                (self.path / "packs").mkdir(exist_ok=True)
                (self.path / "incoming").mkdir(exist_ok=True)
                write_atomically(format_file, FORMAT.encode())
                return
            if found != FORMAT:
                raise StoreError(
                    f"{self.path} is of another format, {found[:40]!r}; this program knows {FORMAT!r}"
                )
            # Nearly always empty, so that some programs that copy folders leave it out.
            (self.path / "incoming").mkdir(exist_ok=True)

    def close(self) -> None:
        """Close all files."""
        self.packs.close()
        self.catalogue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- refs and settings ---------------------------------------------------------------------

    def state(self) -> StoreState:
        """Branches, tags, the current branch and the shallow boundary: one consistent view."""
        return self._state.read()

    def change_state(self, change: Callable[[StoreState], StoreState]) -> StoreState:
        """Change several of these at once; see `StateFile.change`."""
        return self._state.change(change)

    def branches(self) -> dict[str, str]:
        """Name to commit id."""
        return _below(self.state(), BRANCHES)

    def tags(self) -> dict[str, str]:
        """Name to commit id."""
        return _below(self.state(), TAGS)

    def remote_branches(self, remote: str) -> dict[str, str]:
        """Where a remote's branches were when they were last seen."""
        return _below(self.state(), f"remotes/{remote}/")

    def move_branch(self, name: str, new: str | None, *, expected: str | None) -> None:
        """Point a branch at a commit that is there; ``None`` stands for no branch.

        Raises:
            RefConflictError: it is not at ``expected``; nothing changed.
            ObjectNotFoundError: the store does not hold the commit.
            MPackFormatError: no branch can have that name.
        """
        self._move(BRANCHES + check_ref_name(name), new, expected)

    def move_tag(self, name: str, new: str | None, *, expected: str | None = None) -> None:
        """Point a tag at a commit that is there; errors as `move_branch`."""
        self._move(TAGS + check_ref_name(name), new, expected)

    def _move(self, ref: str, new: str | None, expected: str | None) -> None:
        if new is not None and not self.has_commit(new):
            raise ObjectNotFoundError(new)
        self.change_state(lambda state: state.with_ref(ref, new, expected=expected))

    def switch_branch(self, name: str) -> None:
        """Make another branch the one that ``commit`` moves; it need not have a commit."""
        check_ref_name(name)
        self.change_state(lambda state: replace(state, branch=name))

    def settings(self) -> dict[str, Any]:
        """What ``config.json`` holds: remotes, author."""
        path = self.path / "config.json"
        with refuse_as_store_error("cannot read", path):
            try:
                settings = json.loads(path.read_bytes())
            except FileNotFoundError:
                return {}
            except ValueError as error:
                raise StoreError(f"{path} is no JSON: {error}") from error
        if not isinstance(settings, dict):
            raise StoreError(f"{path} is no JSON object")
        return cast("dict[str, Any]", settings)

    def change_settings(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replace the settings by what ``change`` makes of them."""
        with hold_lock(self.path / "lock", timeout_s=self._lock_timeout_s):
            settings = change(self.settings())
            data = json.dumps(settings, indent=1, ensure_ascii=False).encode()
            write_atomically(self.path / "config.json", data + b"\n")

    # -- objects -------------------------------------------------------------------------------

    def has_commit(self, commit_id: str) -> bool:
        """Whether the store holds a commit."""
        return self._pack_of("commit", commit_id) is not None

    def has_blob(self, object_id: str) -> bool:
        """Whether the store holds a blob."""
        return self._pack_of("blob", object_id) is not None

    def missing(self, kind: ObjectKind, object_ids: Collection[str]) -> set[str]:
        """Those of the ids that the store does not hold."""
        missing = set(object_ids) - self.catalogue.known(kind, object_ids)
        if missing and self.refresh():
            missing -= self.catalogue.known(kind, missing)
        return missing

    def commit(self, commit_id: str) -> CommitRecord:
        """The record of a commit.

        Raises:
            ObjectNotFoundError: the store does not hold it.
        """
        return self._find("commit", commit_id, lambda pack: pack.commit(commit_id))

    def snapshot_record(self, snapshot_id: str) -> SnapshotRecord:
        """The record of a snapshot as it is stored: whole, or as a difference.

        Raises:
            ObjectNotFoundError: the store does not hold it.
        """
        return self._find("snapshot", snapshot_id, lambda pack: pack.snapshot(snapshot_id))

    def blob(self, object_id: str) -> bytes:
        """The bytes of a blob.

        Raises:
            ObjectNotFoundError: the store does not hold it.
            MPackIntegrityError: the bytes on disk are not what they were.
        """
        return self._find("blob", object_id, lambda pack: pack.blob(object_id))

    def blobs(self, object_ids: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Id and bytes of many blobs, in whatever order they are read fastest.

        Raises:
            ObjectNotFoundError: the store does not hold one.
            MPackIntegrityError: the bytes on disk are not what they were.
        """
        by_pack: dict[str, list[str]] = {}
        for object_id in object_ids:
            name = self._pack_of("blob", object_id)
            if name is None:
                raise ObjectNotFoundError(object_id)
            by_pack.setdefault(name, []).append(object_id)
        for name, some in by_pack.items():
            try:
                pack = self.packs.open(name)
            except ObjectNotFoundError:
                # Another process has put the packs together since.
                yield from ((object_id, self.blob(object_id)) for object_id in some)
            else:
                yield from pack.blobs(some)

    def snapshot_tree(self, snapshot_id: str) -> SnapshotTree:
        """The files of a snapshot.

        Raises:
            ObjectNotFoundError: the store does not hold it, or one that it is a difference to.
        """
        chain: list[SnapshotRecord] = []
        at: str | None = check_object_id(snapshot_id)
        tree = SnapshotTree.empty()
        while at is not None:
            with self._trees_lock:
                known = self._trees.get(at)
                if known is not None:
                    self._trees.move_to_end(at)
                    tree = known
                    break
            record = self.snapshot_record(at)
            chain.append(record)
            at = record["parent_snapshot_id"]
        for record in reversed(chain):
            tree = tree.apply(
                record["upsert"], record["remove"], record["directories"], decoded=True
            )
        self.keep_tree(tree)
        return tree

    def keep_tree(self, tree: SnapshotTree) -> None:
        """Remember a tree that was computed elsewhere."""
        with self._trees_lock:
            self._trees[tree.snapshot_id] = tree
            while len(self._trees) > TREES_KEPT:
                self._trees.popitem(last=False)

    def tree_of(self, commit_id: str | None) -> SnapshotTree:
        """The files of a commit; none for ``None``."""
        if commit_id is None:
            return SnapshotTree.empty()
        return self.snapshot_tree(self.commit(commit_id)["snapshot_id"])

    # -- history -------------------------------------------------------------------------------

    def graph(self) -> StoreGraph:
        """The history for negotiation, cut at the shallow boundary."""
        return StoreGraph(self.catalogue, self.state().shallow)

    def log(self, tips: Iterable[str]) -> Iterator[CommitRow]:
        """All commits that can be reached, newest first: none after one of its ancestors.

        Raises:
            ObjectNotFoundError: the store lacks one of them, and not on purpose.
        """
        return newest_first(self.catalogue, tips, self.state().shallow)

    def is_ancestor(self, ancestor: str, of: str) -> bool:
        """Whether ``of`` builds on ``ancestor``; each commit does on itself.

        Raises:
            ObjectNotFoundError: the store does not hold one of them.
        """
        for each in (ancestor, of):
            if not self.has_commit(each):
                raise ObjectNotFoundError(each)
        return run_at_once(is_ancestor(self.graph(), ancestor, of))

    # -- packs ---------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Take in what other processes did to the packs; whether there was anything."""
        with refuse_as_store_error("cannot read", self.packs.folder):
            # Taken first: what comes while the folder is read is seen next time.
            changed_ns = self.packs.folder.stat().st_mtime_ns
        there, known = self.packs.ids(), self.catalogue.pack_names()
        if there == known:
            self._packs_seen_ns = changed_ns
            return False
        with self.catalogue.transaction():
            there, known = self.packs.ids(), self.catalogue.pack_names()
            if known - there:
                # Which rows belonged to packs that are gone, and are in others too, is not known.
                self.catalogue.clear()
                known.clear()
            add_packs(self.catalogue, self._listings(there - known))
        self._packs_seen_ns = changed_ns
        return True

    def reindex(self) -> None:
        """Make the catalogue again from the packs."""
        with self.catalogue.transaction():
            self.catalogue.clear()
            add_packs(self.catalogue, self._listings(self.packs.ids()))

    def _listings(self, mpack_ids: Iterable[str]) -> dict[str, PackListing]:
        packs = {mpack_id: self.packs.open(mpack_id) for mpack_id in mpack_ids}
        return {
            mpack_id: PackListing.of(pack.commits(), pack.snapshots(), pack.blob_ids())
            for mpack_id, pack in packs.items()
        }

    def adopt(self, source: Path, mpack_id: str, listing: PackListing | None = None) -> bool:
        """Make a file whose records were all checked a pack of the store; on disk when this returns.

        Args:
            source: in the folder of incoming files; it is moved.
            mpack_id: the hash of its bytes.
            listing: what it holds, where that is known.

        Returns:
            Whether the store did not have it.
        """
        new = self.packs.install(source, mpack_id)
        if listing is None:
            self.refresh()
        else:
            with self.catalogue.transaction():
                add_packs(self.catalogue, {mpack_id: listing})
        return new

    def building_on(self) -> AbstractContextManager[None]:
        """Keep packs from being put together or dropped while something is built on what they hold.

        Raises:
            StoreError: that is being done right now, for too long.
        """
        return hold_lock(self.path / "maintenance", timeout_s=self._lock_timeout_s, shared=True)

    def maintaining(self) -> AbstractContextManager[None]:
        """Wait until nobody is building on the packs, and keep others from it.

        Raises:
            StoreError: somebody is, for too long.
        """
        return hold_lock(self.path / "maintenance", timeout_s=self._lock_timeout_s)

    def _pack_of(self, kind: ObjectKind, object_id: str) -> str | None:
        name = self.catalogue.pack_of(kind, check_object_id(object_id))
        if name is None and self._packs_changed() and self.refresh():
            name = self.catalogue.pack_of(kind, object_id)
        return name

    def _packs_changed(self) -> bool:
        with refuse_as_store_error("cannot read", self.packs.folder):
            return self.packs.folder.stat().st_mtime_ns != self._packs_seen_ns

    def _find(self, kind: ObjectKind, object_id: str, read: Callable[[MPackReader], _T]) -> _T:
        for last in (False, True):
            name = self._pack_of(kind, object_id)
            if name is None:
                raise ObjectNotFoundError(object_id)
            try:
                return read(self.packs.open(name))
            except ObjectNotFoundError:
                # Another process has put the packs together since the catalogue was read.
                if last or not self.refresh():
                    raise
        raise ObjectNotFoundError(object_id)


def _below(state: StoreState, prefix: str) -> dict[str, str]:
    return {
        name.removeprefix(prefix): commit
        for name, commit in sorted(state.refs.items())
        if name.startswith(prefix)
    }

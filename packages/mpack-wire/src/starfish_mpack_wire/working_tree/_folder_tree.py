"""A folder and its history: its files now, and going from one commit to another."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from starfish_mpack_wire._model.entries import Entry, blob_of, blobs_in
from starfish_mpack_wire._model.manifest import Manifest
from starfish_mpack_wire._model.ref_names import check_ref_name
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire.errors import (
    NonFastForwardError,
    ObjectNotFoundError,
    StoreError,
)
from starfish_mpack_wire.working_tree._checkout import apply_checkout, plan_checkout
from starfish_mpack_wire.working_tree._merging import (
    blobs_with,
)
from starfish_mpack_wire.working_tree._name_folding import STORE_FOLDER, NameFolding
from starfish_mpack_wire.working_tree._safe_folder import SafeFolder
from starfish_mpack_wire.working_tree._scan import FolderContents, scan_folder
from starfish_mpack_wire.working_tree._stat_cache import StatCache
from starfish_protocol.clock import Clock, SystemClock

__all__ = ("FetchBlobs", "FolderTree", "TreeStatus")

FetchBlobs = Callable[[Collection[str]], None]
"""Has these blobs in the store afterwards; for partial clones."""


@dataclass(frozen=True, slots=True)
class TreeStatus:
    """How a folder differs from the commit that its branch is at."""

    branch: str
    head: str | None
    """The commit; ``None`` before the first."""
    added: tuple[str, ...]
    modified: tuple[str, ...]
    removed: tuple[str, ...]
    added_directories: tuple[str, ...]
    """Directories that are empty and were not."""
    removed_directories: tuple[str, ...]
    unsupported: Mapping[str, str]
    """What no commit can hold: path to reason."""

    @property
    def clean(self) -> bool:
        """Whether a commit would hold what the last one holds."""
        return not (
            self.added
            or self.modified
            or self.removed
            or self.added_directories
            or self.removed_directories
        )


class FolderTree:
    """See `WorkingTree`: a folder whose store is its ``.mpack`` folder.

    Args:
        root: the folder.
        folding: how its file system compares names; found out when left out.
        clock: dates commits.

    Raises:
        StoreError: it has no store, or the store cannot be opened.
    """

    def __init__(
        self, root: Path, *, folding: NameFolding | None = None, clock: Clock | None = None
    ) -> None:
        self.root = root
        """The folder."""
        if not (root / STORE_FOLDER / "format").is_file():
            raise StoreError(
                f"{root} is not a working tree: it has no {STORE_FOLDER}; see mpack init"
            )
        self.store = LocalStore(root / STORE_FOLDER)
        """Its history."""
        self._folding = folding
        self._clock = clock or SystemClock()
        self._cache = StatCache(self.store.path / "stat-cache.json")

    @classmethod
    def create(cls, root: Path, *, clock: Clock | None = None) -> Self:
        """Make a folder a working tree; its files are left alone.

        Raises:
            StoreError: it is one already, or cannot be written.
        """
        if (root / STORE_FOLDER / "format").exists():
            raise StoreError(f"{root} is a working tree already")
        LocalStore(root / STORE_FOLDER).close()
        return cls(root, clock=clock)

    @classmethod
    def find(cls, start: Path, *, clock: Clock | None = None) -> Self:
        """The working tree that a folder is, or is in.

        Raises:
            StoreError: it is in none.
        """
        for folder in (start, *start.resolve().parents):
            if (folder / STORE_FOLDER / "format").is_file():
                return cls(folder, clock=clock)
        raise StoreError(
            f"neither {start} nor a folder above it has a {STORE_FOLDER}; see mpack init"
        )

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def head(self) -> str | None:
        """The commit that the current branch is at."""
        state = self.store.state()
        return state.refs.get(f"heads/{state.branch}")

    def status(self) -> TreeStatus:
        """Compare the folder with the last commit.

        Raises:
            StoreError: something cannot be read.
        """
        state = self.store.state()
        head = state.refs.get(f"heads/{state.branch}")
        tree = self.store.tree_of(head)
        before = tree.manifest
        with SafeFolder(self.root) as folder:
            now = self._scan(folder, before)
        was, empty = set(tree.directories), set(now.directories)
        return TreeStatus(
            branch=state.branch,
            head=head,
            added=tuple(path for path in now.files if path not in before),
            modified=tuple(
                path for path, entry in now.files.items() if before.get(path, entry) != entry
            ),
            removed=tuple(path for path in before if path not in now.files),
            added_directories=tuple(sorted(empty - was)),
            removed_directories=tuple(sorted(was - empty)),
            unsupported=now.unsupported,
        )

    def contents(self) -> FolderContents:
        """Return the files of the folder as they are.

        Raises:
            StoreError: something cannot be read.
        """
        tracked = self.store.tree_of(self.head()).manifest
        with SafeFolder(self.root) as folder:
            return self._scan(folder, tracked)

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file of the folder, or the text of a link.

        Raises:
            UnsafePathError: a part of the path is a link or no folder.
            OSError: it cannot be read.
        """
        with SafeFolder(self.root) as folder:
            status = folder.stat(path)
            if status is not None and stat.S_ISLNK(status.st_mode):
                return folder.read_link(path)
            return folder.read(path)

    def show_file(self, commit_id: str, path: str, out: BinaryIO) -> None:
        """Write the bytes of a file of a commit.

        Raises:
            ObjectNotFoundError: the commit has no file at the path, or the store lacks its bytes.
        """
        entry = self.store.tree_of(commit_id).manifest.get(path)
        blob = None if entry is None else blob_of(entry)
        if blob is None:
            raise ObjectNotFoundError(f"the file {path} of {commit_id}")
        out.writelines(self.store.blob_pieces(blob))

    def checkout(
        self,
        branch: str,
        *,
        start: str | None = None,
        force: bool = False,
        fetch_blobs: FetchBlobs | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Go to another branch: its files are in the folder, and ``commit`` moves it.

        Local changes to files that are the same in both branches stay.

        Args:
            branch: where to go.
            start: a commit at which the branch is made; it must not exist then.
            force: destroy local changes and files that are in the way.
            fetch_blobs: how a partial clone gets what it needs.
            on_progress: called with the number of files written and their total.

        Raises:
            ObjectNotFoundError: no such branch or commit.
            RefConflictError: the branch that is to be made exists.
            LocalChangesError: something would be lost; nothing was changed.
            UnsafePathError: this file system cannot hold the snapshot; nothing was changed.
        """
        name = f"heads/{check_ref_name(branch)}"
        state = self.store.state()
        if start is not None and name in state.refs:
            state.with_ref(name, start, expected=None)
        target = start or state.refs.get(name)
        if target is None:
            raise ObjectNotFoundError(f"the branch {branch}")
        head = state.refs.get(f"heads/{state.branch}")
        self._write_files(
            head, target, force=force, fetch_blobs=fetch_blobs, on_progress=on_progress
        )
        self.store.change_state(
            lambda now: replace(
                now if start is None else now.with_ref(name, start, expected=None), branch=branch
            )
        )

    def fast_forward(
        self,
        to: str,
        *,
        force: bool = False,
        fetch_blobs: FetchBlobs | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> bool:
        """Move the current branch and the files to a commit that builds on it.

        Args:
            to: the commit.
            force: move also to a commit that does not build on it, and destroy local changes.
            fetch_blobs: how a partial clone gets what it needs.
            on_progress: called with the number of files written and their total.

        Returns:
            Whether there was anything to move.

        Raises:
            NonFastForwardError: the commit does not build on the branch.
            LocalChangesError: something would be lost; nothing was changed.
        """
        state = self.store.state()
        head = state.refs.get(f"heads/{state.branch}")
        if head == to or (head is not None and not force and self.store.is_ancestor(to, head)):
            return False
        if head is not None and not force and not self.store.is_ancestor(head, to):
            raise NonFastForwardError(state.branch, to, head)
        self._write_files(head, to, force=force, fetch_blobs=fetch_blobs, on_progress=on_progress)
        self.store.move_branch(state.branch, to, expected=head)
        return True

    def write_head(
        self,
        *,
        since: str | None = None,
        force: bool = False,
        fetch_blobs: FetchBlobs | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Have the files of the current branch in a folder that holds those of another commit.

        Args:
            since: the commit whose files the folder holds; ``None`` for none, as after a clone.
            force: destroy local changes and files that are in the way.
            fetch_blobs: how a partial clone gets what it needs.
            on_progress: called with the number of files written and their total.

        Raises:
            LocalChangesError: other files are in the way; nothing was changed.
        """
        head = self.head()
        if head is not None:
            self._write_files(
                since, head, force=force, fetch_blobs=fetch_blobs, on_progress=on_progress
            )

    def _write_files(
        self,
        base: str | None,
        target: str,
        *,
        force: bool,
        fetch_blobs: FetchBlobs | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        self._write_manifest(
            self.store.tree_of(base).flat(),
            self.store.tree_of(target).flat(),
            force=force,
            fetch_blobs=fetch_blobs,
            on_progress=on_progress,
        )

    def _write_manifest(
        self,
        before: Manifest,
        after: Manifest,
        *,
        force: bool,
        given: Mapping[str, bytes] | None = None,
        fetch_blobs: FetchBlobs | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        contents = given or {}
        folding = self._folding or NameFolding.probe(self.store.path / "incoming")
        with SafeFolder(self.root) as folder:
            now = self._scan(folder, before.entries)
            plan = plan_checkout(before, after, now, folder, folding=folding, force=force)
            needed = set(blobs_in(plan.write.values())) - contents.keys()
            missing = self.store.missing("blob", needed)
            if missing and fetch_blobs is not None:
                fetch_blobs(missing)
                missing = self.store.missing("blob", missing)
            if missing:
                raise ObjectNotFoundError(min(missing))
            apply_checkout(
                plan,
                now,
                folder,
                new_file=self.store.incoming.new_file,
                read_blobs=lambda ids: blobs_with(self.store, contents, ids),
                force=force,
                on_progress=on_progress,
            )

    def _scan(self, folder: SafeFolder, tracked: Mapping[str, Entry]) -> FolderContents:
        try:
            return scan_folder(folder, self._cache, tracked)
        except OSError as error:
            raise StoreError(f"cannot read below {self.root}: {error}") from error

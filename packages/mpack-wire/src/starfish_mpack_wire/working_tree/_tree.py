"""`WorkingTree`: commits, merges, and going back, in a folder that has a history."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from starfish_mpack_wire._model.entries import blobs_in
from starfish_mpack_wire._model.manifest import Manifest
from starfish_mpack_wire._model.object_ids import commit_id
from starfish_mpack_wire._model.records import CommitRecord
from starfish_mpack_wire._store.packing import write_commit
from starfish_mpack_wire.errors import (
    LocalChangesError,
    ObjectNotFoundError,
    OpenConflictsError,
    StoreError,
    UnsafePathError,
    UnsupportedFilesError,
)
from starfish_mpack_wire.working_tree._folder_tree import FetchBlobs, FolderTree, TreeStatus
from starfish_mpack_wire.working_tree._merging import (
    MergeResult,
    MergeState,
    common_ancestor,
    plan_merge,
)
from starfish_mpack_wire.working_tree._new_blobs import NewBlobs
from starfish_mpack_wire.working_tree._safe_folder import SafeFolder

__all__ = ("FetchBlobs", "TreeStatus", "WorkingTree")


class WorkingTree(FolderTree):
    """A folder whose store is its ``.mpack`` folder.

    Args:
        root: the folder.
        folding: how its file system compares names; found out when left out.
        clock: dates commits.

    Raises:
        StoreError: it has no store, or the store cannot be opened.
    """

    def commit(
        self,
        message: str,
        *,
        author: str,
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
    ) -> CommitRecord | None:
        """Make the folder as it is a commit of the current branch; on disk when this returns.

        Only files that changed since they were last read are read.

        Returns:
            The commit; ``None`` when it would hold what the last one holds.

        Raises:
            UnsupportedFilesError: there are pipes, devices or names that no snapshot holds.
            RefConflictError: another process moved the branch meanwhile.
            MPackIntegrityError: a file changed while it was read; commit again.
            StoreError: the disk is full, or a file cannot be read.
        """
        state = self.store.state()
        head = state.refs.get(f"heads/{state.branch}")
        before = self.store.tree_of(head)
        merging = self._merging(head)
        with SafeFolder(self.root) as folder:
            self._refuse_open_conflicts(folder, merging)
            old = before.manifest
            now = self._scan(folder, old)
            if now.unsupported:
                raise UnsupportedFilesError(now.unsupported)
            upsert = {path: blob for path, blob in now.files.items() if old.get(path) != blob}
            remove = [path for path in old if path not in now.files]
            tree = before.apply(upsert, remove, now.directories)
            nothing = head is not None and tree.snapshot_id == before.snapshot_id
            if nothing and not allow_empty and merging is None:
                return None
            record: CommitRecord = {
                "commit_id": "",
                "branch": state.branch,
                "snapshot_id": tree.snapshot_id,
                "parent_ids": [
                    *([head] if head else []),
                    *([merging.theirs] if merging is not None else []),
                ],
                "message": message,
                "author": author,
                "committed_at": self._clock.now().isoformat(timespec="milliseconds"),
                "metadata": dict(metadata or {}),
            }
            record["commit_id"] = commit_id(record)
            try:
                source = NewBlobs(folder, upsert, now)
                write_commit(
                    self.store,
                    record,
                    tree,
                    before if head else None,
                    blobs=source.ids(),
                    source=source,
                )
            except OSError as error:
                raise StoreError(f"cannot read below {self.root}: {error}") from error
        self.store.move_branch(state.branch, record["commit_id"], expected=head)
        MergeState.clear(self.store)
        return record

    def _merging(self, head: str | None) -> MergeState | None:
        """The merge on its way; one that a crash left behind its commit is over."""
        merging = MergeState.read(self.store)
        if merging is None or head is None:
            return None
        if self.store.is_ancestor(merging.theirs, head):
            MergeState.clear(self.store)
            return None
        return merging

    @staticmethod
    def _refuse_open_conflicts(folder: SafeFolder, merging: MergeState | None) -> None:
        still_there = [
            path
            for path in (merging.files if merging is not None else ())
            if folder.stat(path) is not None
        ]
        if still_there:
            raise OpenConflictsError(still_there)

    def merge(
        self,
        theirs: str,
        *,
        author: str,
        message: str | None = None,
        fetch_blobs: FetchBlobs | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> MergeResult:
        """Bring the changes of another commit into the current branch and the folder.

        Texts are merged line by line. Where both sides changed the same, our side stays at the path, and the other side
        and the common ancestor are beside it as ``PATH~theirs`` and ``PATH~base``: make the file as it shall be, remove
        those two, and commit.

        Args:
            theirs: the commit to merge in.
            author: of the merge commit.
            message: of the merge commit.
            fetch_blobs: how a partial clone gets blobs that it needs.
            on_progress: called with the number of files written and their total.

        Raises:
            LocalChangesError: the folder has changes that no commit holds, or another merge is on its way.
            ObjectNotFoundError: the store does not hold the commit.
        """
        state = self.store.state()
        head = state.refs.get(f"heads/{state.branch}")
        if head is None or self.store.is_ancestor(head, theirs):
            moved = head != theirs and self.fast_forward(
                theirs, fetch_blobs=fetch_blobs, on_progress=on_progress
            )
            return MergeResult("forward" if moved else "nothing", theirs)
        if self.store.is_ancestor(theirs, head):
            return MergeResult("nothing", head)
        status = self.status()
        if not status.clean or self._merging(head) is not None:
            raise LocalChangesError(
                sorted({*status.added, *status.modified, *status.removed}) or ["a merge"]
            )
        base = common_ancestor(self.store, head, theirs)
        text = message or f"Merge {theirs[:19]} into {state.branch}"
        if fetch_blobs is not None:
            trees = (self.store.tree_of(each).manifest for each in (base, head, theirs))
            needed = {blob for manifest in trees for blob in blobs_in(manifest.values())}
            missing = self.store.missing("blob", needed)
            if missing:
                fetch_blobs(missing)
        plan = plan_merge(self.store, base, head, theirs)
        MergeState(theirs, text, plan.files).write(self.store)
        try:
            self._write_manifest(
                self.store.tree_of(head).flat(),
                plan.target,
                given=plan.contents,
                force=False,
                on_progress=on_progress,
            )
        except (LocalChangesError, UnsafePathError):
            MergeState.clear(self.store)
            raise
        if plan.conflicts:
            paths = tuple(conflict.path for conflict in plan.conflicts)
            return MergeResult("conflicts", head, paths, plan.files)
        record = self.commit(text, author=author)
        return MergeResult("merged", record["commit_id"] if record is not None else head)

    def merge_message(self) -> str | None:
        """Return the message that the merge on its way was begun with; ``None`` without one."""
        merging = self._merging(self.head())
        return None if merging is None else merging.message

    def reset(
        self,
        to: str,
        *,
        hard: bool = False,
        fetch_blobs: FetchBlobs | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Point the current branch at another commit.

        Args:
            to: the commit.
            hard: have its files in the folder as well, and destroy local changes; a merge on its way is given up.
                Otherwise the folder stays as it is.
            fetch_blobs: how a partial clone gets blobs that it needs.
            on_progress: called with the number of files written and their total.

        Raises:
            ObjectNotFoundError: the store does not hold the commit.
            UnsafePathError: this file system cannot hold the snapshot; nothing was changed.
        """
        state = self.store.state()
        head = state.refs.get(f"heads/{state.branch}")
        merging = MergeState.read(self.store)
        if hard:
            self._write_files(
                head, to, force=True, fetch_blobs=fetch_blobs, on_progress=on_progress
            )
            if merging is not None:
                self._remove_merged(merging, to)
        self.store.move_branch(state.branch, to, expected=head)
        MergeState.clear(self.store)

    def _remove_merged(self, merging: MergeState, to: str) -> None:
        """Remove files that a merge brought; one that was changed since is in no commit and stays."""
        brought = self.store.tree_of(merging.theirs).manifest
        kept = self.store.tree_of(to).manifest
        now = self.contents().files
        with SafeFolder(self.root) as folder:
            for path in merging.files:
                folder.remove(path)
            for path, entry in brought.items():
                if path not in kept and now.get(path) == entry:
                    folder.remove(path)

    def restore(
        self,
        paths: Collection[str],
        *,
        source: str | None = None,
        fetch_blobs: FetchBlobs | None = None,
    ) -> tuple[str, ...]:
        """Have files as they are in a commit, and destroy local changes to them.

        Args:
            paths: files, or folders for all files below them; an empty path for everything.
            source: the commit; ``None`` for that of the current branch.
            fetch_blobs: how a partial clone gets blobs that it needs.

        Returns:
            The paths that were written or removed, sorted.

        Raises:
            ObjectNotFoundError: neither the commit nor the folder has anything at a path.
        """
        head = self.head()
        wanted = self.store.tree_of(source or head)
        known = self.store.tree_of(head).manifest
        target = dict(wanted.manifest)
        with SafeFolder(self.root) as folder:
            now = self._scan(folder, known)
        touched = {
            path
            for path in {*target, *(path for path in now.files if path in known)}
            if any(not each or path == each or path.startswith(f"{each}/") for each in paths)
        }
        for each in paths:
            if each and not any(path == each or path.startswith(f"{each}/") for path in touched):
                raise ObjectNotFoundError(f"the path {each}")
        before = {path: entry for path, entry in now.files.items() if path in touched}
        after = {path: entry for path, entry in target.items() if path in touched}
        changed = {path for path in touched if before.get(path) != after.get(path)}
        others = {path: entry for path, entry in now.files.items() if path not in touched}
        self._write_manifest(
            Manifest(now.files, frozenset(now.directories)),
            Manifest(others | after, frozenset(now.directories)),
            force=True,
            fetch_blobs=fetch_blobs,
        )
        return tuple(sorted(changed))

"""`import_git`: branches and tags of a git repository, as commits of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

from dulwich.diff_tree import tree_changes
from dulwich.errors import NotGitRepository
from dulwich.objects import Commit, ObjectID, Tag, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from starfish_mpack_wire.errors import GitError, MPackFormatError, NonFastForwardError
from starfish_mpack_wire.git.commit_text import fields_of, modes_of
from starfish_mpack_wire.object_ids import blob_id, commit_id
from starfish_mpack_wire.pack.layout import MAX_SNAPSHOT_CHAIN
from starfish_mpack_wire.pack.writer import write_mpack
from starfish_mpack_wire.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire.ref_names import is_ref_name
from starfish_mpack_wire.snapshot_tree import SnapshotTree
from starfish_mpack_wire.store.durable import refuse_as_store_error
from starfish_mpack_wire.store.local_store import LocalStore
from starfish_mpack_wire.store.pack_plan import difference_record
from starfish_mpack_wire.store.state import StoreState

__all__ = ("ImportResult", "import_git")

FOLDER, PLAIN, SUBMODULE = 0o040000, 0o100644, 0o160000


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What came in."""

    commits: int
    """New commits."""
    branches: Mapping[str, str]
    """Name to commit id."""
    tags: Mapping[str, str]
    """Name to commit id."""
    notes: tuple[str, ...]
    """What could not be carried over, one sentence each."""

    def as_map(self) -> dict[str, Any]:
        """This as a JSON object."""
        return {
            "commits": self.commits,
            "branches": dict(self.branches),
            "tags": dict(self.tags),
            "notes": list(self.notes),
        }


def import_git(
    store: LocalStore, repository: str | PathLike[str], *, force: bool = False
) -> ImportResult:
    """Have the branches and tags of a git repository in a store; the next time, what is new.

    One git history gives the same commit ids on every machine. `export_git` makes the same commits of git, down to their
    SHA-1, of what came in; ``git.*`` metadata hold what our records have no field for.

    Args:
        store: where to.
        repository: the folder of a git repository, bare or not. It is only read.
        force: move branches also where that is no fast-forward.

    Raises:
        GitError: it is no git repository, or holds a path that has no place in a snapshot.
        NonFastForwardError: a branch of the store has commits of its own; nothing moved.
        StoreError: the disk is full.
    """
    try:
        repo = Repo(fspath(repository))
    except NotGitRepository as error:
        raise GitError(f"{Path(repository)} is no git repository") from error
    try:
        return _Importer(store, repo).run(force=force)
    except KeyError as error:
        raise GitError(f"the git repository lacks the object {error}: is it shallow?") from error
    finally:
        repo.close()


class _GitBlobs:
    """Blobs by our ids, read from git when they are written."""

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        self._ids: dict[bytes, str] = {}
        self.git_ids: dict[str, bytes] = {}

    def id_of(self, git_id: bytes) -> str:
        known = self._ids.get(git_id)
        if known is None:
            known = self._ids[git_id] = blob_id(self._read(git_id))
            self.git_ids[known] = git_id
        return known

    def _read(self, git_id: bytes) -> bytes:
        return self._repo.object_store.get_raw(ObjectID(git_id))[1]

    def blob(self, object_id: str) -> bytes:
        return self._read(self.git_ids[object_id])


class _Importer:
    def __init__(self, store: LocalStore, repo: Repo) -> None:
        self._store = store
        self._repo = repo
        self._blobs = _GitBlobs(repo)
        self._notes: list[str] = []
        known = store.catalogue.foreign_commits()
        absent = store.missing("commit", set(known.values()))
        self._ours = {git: own for git, own in known.items() if own not in absent}
        self._new: dict[str, str] = {}
        self._trees: dict[str, tuple[SnapshotTree, dict[str, str]]] = {}
        self._chains: dict[str, int] = {}
        self._commits: dict[str, CommitRecord] = {}
        self._snapshots: dict[str, SnapshotRecord] = {}
        self._needed_blobs: set[str] = set()

    def run(self, *, force: bool) -> ImportResult:
        branches = self._refs(b"refs/heads/")
        tags = self._refs(b"refs/tags/")
        with self._store.building_on():
            for git_id in self._unknown([*branches.values(), *tags.values()]):
                self._convert(git_id)
            if self._commits:
                self._write()
        self._store.catalogue.remember_foreign(self._new.items())
        ours = self._ours
        moved = {name: ours[at] for name, at in branches.items()}
        tagged = {name: ours[at] for name, at in tags.items()}
        self._move(moved, tagged, force=force)
        return ImportResult(len(self._commits), moved, tagged, tuple(self._notes))

    def _refs(self, prefix: bytes) -> dict[str, str]:
        """Name to the id of a commit."""
        found: dict[str, str] = {}
        for ref, at in sorted(self._repo.refs.as_dict().items()):
            if not ref.startswith(prefix):
                continue
            name = ref.removeprefix(prefix).decode("utf-8", "replace")
            if not is_ref_name(name):
                self._notes.append(f"{name!r} is no name of a branch or tag here and was left out")
                continue
            target = self._repo[at]
            if isinstance(target, Tag):
                self._notes.append(f"the tag {name} has a message or signature, which was left out")
            while isinstance(target, Tag):
                target = self._repo[target.object[1]]
            if not isinstance(target, Commit):
                self._notes.append(f"{name} names no commit and was left out")
                continue
            found[name] = target.id.decode()
        return found

    def _unknown(self, tips: list[str]) -> Iterator[str]:
        """The commits that are new, parents first."""
        done = set(self._ours)
        for tip in tips:
            stack = [tip]
            while stack:
                git_id = stack[-1]
                parents = [] if git_id in done else self._parents_of(git_id)
                waiting = [parent for parent in parents if parent not in done]
                if waiting:
                    stack += waiting
                    continue
                stack.pop()
                if git_id not in done:
                    done.add(git_id)
                    yield git_id

    def _parents_of(self, git_id: str) -> list[str]:
        commit = self._repo[ObjectID(git_id.encode())]
        return [parent.decode() for parent in commit.parents] if isinstance(commit, Commit) else []

    def _convert(self, git_id: str) -> None:
        commit = cast("Commit", self._repo[ObjectID(git_id.encode())])
        parents = [parent.decode() for parent in commit.parents]
        base_id = self._ours[parents[0]] if parents else None
        base, modes = self._tree_of(base_id)
        git_base = cast("Commit", self._repo[commit.parents[0]]).tree if parents else None
        upsert, remove, modes = self._changes(git_id, git_base, commit.tree, modes)
        try:
            tree = base.apply(upsert, remove)
        except MPackFormatError as error:
            raise GitError(f"commit {git_id} of git has no place here: {error}") from error
        self._add_snapshot(tree, base if base_id else None, upsert, remove)
        fields = fields_of(commit.as_raw_string(), git_id, modes)
        record = cast(
            "CommitRecord",
            {
                "commit_id": "",
                "snapshot_id": tree.snapshot_id,
                "parent_ids": list(dict.fromkeys(self._ours[parent] for parent in parents)),
                **fields,
            },
        )
        own = record["commit_id"] = commit_id(record)
        self._commits[own] = record
        self._ours[git_id] = self._new[git_id] = own
        self._trees[own] = (tree, modes)

    def _tree_of(self, own: str | None) -> tuple[SnapshotTree, dict[str, str]]:
        if own is None:
            return SnapshotTree.empty(), {}
        found = self._trees.get(own)
        if found is None:
            record = self._store.commit(own)
            found = self._store.snapshot_tree(record["snapshot_id"]), modes_of(record)
            self._trees[own] = found
        return found

    def _changes(
        self, git_id: str, base: ObjectID | None, tree: ObjectID, modes: dict[str, str]
    ) -> tuple[dict[str, str], list[str], dict[str, str]]:
        upsert: dict[str, str] = {}
        gone: set[str] = set()
        modes = dict(modes)
        self._check_tree(git_id, tree)
        changes = tree_changes(self._repo.object_store, base, tree, include_trees=True)
        added: list[tuple[str, int, bytes]] = []
        for change in changes:
            if change.old is not None and change.old.mode != FOLDER:
                path = _path_of(change.old.path, git_id)
                modes.pop(path, None)
                if change.old.mode != SUBMODULE:
                    gone.add(path)
            new = change.new
            if new is None:
                continue
            if new.mode == FOLDER:
                self._check_tree(git_id, new.sha)
            else:
                added.append((_path_of(new.path, git_id), new.mode, new.sha))
        for path, mode, sha in added:
            if mode == SUBMODULE:
                modes[path] = f"{mode:o} {sha.decode()}"
                continue
            if mode != PLAIN:
                modes[path] = f"{mode:o}"
            upsert[path] = self._blobs.id_of(sha)
        return upsert, sorted(gone - upsert.keys()), modes

    def _check_tree(self, git_id: str, tree_id: ObjectID) -> None:
        tree = cast("Tree", self._repo[tree_id])
        again = Tree()
        for entry in tree.iteritems():
            again.add(entry.path, entry.mode, entry.sha)
        if again.id != tree.id:
            self._notes.append(
                f"a folder of {git_id} is written as git does not write any more: its SHA-1 will differ"
            )

    def _add_snapshot(
        self,
        tree: SnapshotTree,
        base: SnapshotTree | None,
        upsert: dict[str, str],
        remove: list[str],
    ) -> None:
        snapshot_id = tree.snapshot_id
        self._needed_blobs.update(upsert.values())
        if snapshot_id in self._snapshots or not self._store.missing("snapshot", [snapshot_id]):
            return
        chain = 0 if base is None else self._chain_of(base.snapshot_id) + 1
        record: SnapshotRecord
        if base is None or chain >= MAX_SNAPSHOT_CHAIN:
            chain, record = 0, difference_record(tree, None)
        else:
            record = {
                "snapshot_id": snapshot_id,
                "parent_snapshot_id": base.snapshot_id,
                "upsert": upsert,
                "remove": remove,
                "directories": [],
            }
        self._chains[snapshot_id] = chain
        self._snapshots[snapshot_id] = record

    def _chain_of(self, snapshot_id: str) -> int:
        if snapshot_id in self._chains:
            return self._chains[snapshot_id]
        row = self._store.catalogue.snapshot(snapshot_id)
        return row.chain if row else MAX_SNAPSHOT_CHAIN

    def _write(self) -> None:
        blobs = self._store.missing("blob", self._needed_blobs)
        with self._store.incoming.new_file() as file:
            with refuse_as_store_error("cannot write", file), file.open("wb") as out:
                written = write_mpack(
                    out, self._commits.values(), self._snapshots.values(), blobs, self._blobs
                )
            self._store.adopt(file, written.mpack_id)

    def _move(self, branches: dict[str, str], tags: dict[str, str], *, force: bool) -> None:
        store = self._store

        def moved(state: StoreState) -> StoreState:
            for name, to in branches.items():
                at = state.refs.get(f"heads/{name}")
                if at is not None and not force and not store.is_ancestor(at, to):
                    if store.is_ancestor(to, at):
                        continue  # git has not seen what was made here
                    raise NonFastForwardError(name, to, at)
                state = state.with_ref(f"heads/{name}", to, expected=at)
            for name, to in tags.items():
                at = state.refs.get(f"tags/{name}")
                if at is None or force:
                    state = state.with_ref(f"tags/{name}", to, expected=at)
            if f"heads/{state.branch}" not in state.refs and branches:
                head = self._repo.refs.read_ref(Ref(b"HEAD")) or b""
                name = (
                    head.removeprefix(b"ref: ")
                    .removeprefix(b"refs/heads/")
                    .decode("utf-8", "replace")
                )
                state = replace(state, branch=name if name in branches else min(branches))
            return state

        store.change_state(moved)


def _path_of(path: bytes, git_id: str) -> str:
    try:
        return path.decode()
    except UnicodeDecodeError as error:
        raise GitError(
            f"commit {git_id} of git has the path {path!r}, which is no UTF-8"
        ) from error

"""`export_git`: branches and tags as commits of git."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from dulwich.errors import NotGitRepository
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from starfish_mpack_wire.errors import GitError
from starfish_mpack_wire.git.commit_text import (
    GIT_ID,
    git_bytes_of,
    modes_of,
    native_bytes_of,
)
from starfish_mpack_wire.records import CommitRecord
from starfish_mpack_wire.store.local_store import LocalStore
from starfish_mpack_wire.store.pack_plan import difference_record

__all__ = ("ExportResult", "export_git")

OBJECTS_A_PACK = 20_000
STATES_KEPT = 64
FOLDER, PLAIN, SUBMODULE = 0o040000, 0o100644, 0o160000

Entry = tuple[int, ObjectID]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What went out."""

    commits: int
    """New commits of git."""
    branches: Mapping[str, str]
    """Name to SHA-1."""
    tags: Mapping[str, str]
    """Name to SHA-1."""
    notes: tuple[str, ...]
    """What git cannot hold, one sentence each."""

    def as_map(self) -> dict[str, Any]:
        """This as a JSON object."""
        return {
            "commits": self.commits,
            "branches": dict(self.branches),
            "tags": dict(self.tags),
            "notes": list(self.notes),
        }


def export_git(
    store: LocalStore, repository: str | PathLike[str], *, force: bool = False
) -> ExportResult:
    """Write all branches and tags into a git repository; the next time, what is new.

    Commits that came from git get the SHA-1 that they had. Metadata and unknown keys of commits made here, and
    empty directories, have no place in git: the notes say so.

    Args:
        store: where they are.
        repository: the folder of a git repository; a bare one is made when it is missing.
        force: move branches and tags of git also where that loses commits.

    Raises:
        GitError: the folder holds something else, a branch of git has commits that are not in the store, or the store is
            shallow or partial.
        StoreError: the store cannot be read.
    """
    state = store.state()
    if state.shallow or state.partial:
        raise GitError(
            "a shallow or partial store does not hold all that git needs; fetch the rest"
        )
    folder = Path(repository)
    try:
        if folder.exists() and any(folder.iterdir()):
            repo = Repo(str(folder))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            repo = Repo.init_bare(str(folder), default_branch=state.branch.encode())
    except (NotGitRepository, OSError) as error:
        raise GitError(f"{folder} cannot be used as a git repository: {error}") from error
    try:
        return _Exporter(store, repo).run(state.refs, force=force)
    finally:
        repo.close()


@dataclass(slots=True)
class _Written:
    """A commit in git: its files as git has them, folder by folder."""

    folders: dict[str, dict[str, Entry]]
    ids: dict[str, ObjectID]
    modes: dict[str, str]


class _Exporter:
    def __init__(self, store: LocalStore, repo: Repo) -> None:
        self._store = store
        self._repo = repo
        self._objects: list[tuple[ShaFile, None]] = []
        self._blobs: dict[str, ObjectID] = {}
        self._states: OrderedDict[str, _Written] = OrderedDict()
        self._notes: dict[str, None] = {}
        self._git_ids: dict[str, str] = {}
        for git_id, own in store.catalogue.foreign_commits().items():
            if ObjectID(git_id.encode()) in repo.object_store:
                self._git_ids[own] = git_id

    def run(self, refs: Mapping[str, str], *, force: bool) -> ExportResult:
        wanted = {name: at for name, at in refs.items() if name.startswith(("heads/", "tags/"))}
        order = [row.commit_id for row in self._store.log(wanted.values())]
        new: list[tuple[str, str]] = []
        for own in reversed(order):
            if own not in self._git_ids:
                git_id = self._git_ids[own] = self._write_commit(self._store.commit(own))
                new.append((git_id, own))
        self._flush()
        self._store.catalogue.remember_foreign(new)
        branches = {name[6:]: self._git_ids[at] for name, at in wanted.items() if name[0] == "h"}
        tags = {name[5:]: self._git_ids[at] for name, at in wanted.items() if name[0] == "t"}
        self._move(b"refs/heads/", branches, force=force)
        self._move(b"refs/tags/", tags, force=force)
        return ExportResult(len(new), branches, tags, tuple(self._notes))

    def _write_commit(self, record: CommitRecord) -> str:
        parents = [self._git_ids[parent] for parent in record["parent_ids"]]
        written = self._written(record)
        tree = written.ids[""].decode()
        raw = git_bytes_of(record, tree, parents)
        if raw is None:
            raw = native_bytes_of(record, tree, parents)
            if record.get("metadata"):
                self._note("metadata of commits that were made here have no place in git")
        commit = ShaFile.from_raw_string(Commit.type_num, raw)
        git_id = commit.id.decode()
        was = record.get("metadata", {}).get(GIT_ID)
        if was is not None and was != git_id:
            self._note(f"the commit {was} of git has become {git_id}")
        self._add(commit)
        return git_id

    def _written(self, record: CommitRecord) -> _Written:
        """The trees of a commit, written as far as they are new."""
        own = record["commit_id"]
        found = self._states.get(own)
        if found is not None:
            return found
        base = _Written({"": {}}, {}, {})
        parent = record["parent_ids"][0] if record["parent_ids"] else None
        tree = self._store.snapshot_tree(record["snapshot_id"])
        if tree.directories:
            self._note("empty directories have no place in git")
        before = None
        if parent is not None:
            base = self._states.get(parent) or self._written_before(parent)
            before = self._store.tree_of(parent)
        change = difference_record(tree, before)
        came_from_git = GIT_ID in record.get("metadata", {})
        modes = modes_of(record)
        if not came_from_git:
            modes = {
                path: mode
                for path, mode in base.modes.items()
                if path in tree or (mode.startswith("160000") and tree.get(path) is None)
            }
        folders, touched = dict(base.folders), set[str]()
        odd = base.modes.keys() | modes.keys()
        changed = [path for path in odd if base.modes.get(path) != modes.get(path)]
        for path in {*change["remove"], *changed}:
            self._set(folders, touched, path, None)
        for path in {*change["upsert"], *changed}:
            mode = modes.get(path, f"{PLAIN:o}")
            if mode.startswith("160000 "):
                self._set(folders, touched, path, (SUBMODULE, ObjectID(mode[7:].encode())))
            elif (blob := tree.get(path)) is not None:
                self._set(folders, touched, path, (int(mode, 8), self._blob(blob)))
        state = _Written(folders, self._write_trees(folders, dict(base.ids), touched), modes)
        self._states[own] = state
        while len(self._states) > STATES_KEPT:
            self._states.popitem(last=False)
        return state

    def _written_before(self, own: str) -> _Written:
        """The state of a commit that is in git already, without looking at its own parents."""
        record = self._store.commit(own)
        alone: CommitRecord = {**record, "parent_ids": []}
        metadata = {**record.get("metadata", {}), GIT_ID: self._git_ids[own]}
        return self._written({**alone, "metadata": metadata})

    @staticmethod
    def _set(
        folders: dict[str, dict[str, Entry]], touched: set[str], path: str, entry: Entry | None
    ) -> None:
        above, _, name = path.rpartition("/")
        if above not in touched:
            folders[above] = dict(folders.get(above, {}))
            touched.add(above)
        if entry is None:
            folders[above].pop(name, None)
        else:
            folders[above][name] = entry

    def _write_trees(
        self,
        folders: dict[str, dict[str, Entry]],
        ids: dict[str, ObjectID],
        touched: set[str],
    ) -> dict[str, ObjectID]:
        """Write the folders that changed and all above them, the deepest first."""
        pending = {""}
        for folder in touched:
            while folder not in pending:
                pending.add(folder)
                folder = folder.rpartition("/")[0]  # noqa: PLW2901 - up to the root
        for folder in sorted(pending, key=_depth, reverse=True):
            entries = folders.get(folder, {})
            above, _, name = folder.rpartition("/")
            if not entries and folder:
                folders.pop(folder, None)
                ids.pop(folder, None)
                self._set(folders, touched, folder, None)
                continue
            tree = Tree()
            for each, (mode, git_id) in entries.items():
                tree.add(each.encode(), mode, git_id)
            ids[folder] = tree.id
            self._add(tree)
            if folder:
                self._set(folders, touched, f"{above}/{name}" if above else name, (FOLDER, tree.id))
        return ids

    def _blob(self, object_id: str) -> ObjectID:
        known = self._blobs.get(object_id)
        if known is None:
            blob = Blob.from_string(self._store.blob(object_id))
            known = self._blobs[object_id] = blob.id
            self._add(blob)
        return known

    def _add(self, written: ShaFile) -> None:
        if written.id in self._repo.object_store:
            return
        self._objects.append((written, None))
        if len(self._objects) >= OBJECTS_A_PACK:
            self._flush()

    def _flush(self) -> None:
        if self._objects:
            unique = {each[0].id: each for each in self._objects}
            self._repo.object_store.add_objects(list(unique.values()))
            self._objects.clear()

    def _note(self, text: str) -> None:
        self._notes[text] = None

    def _move(self, prefix: bytes, refs: Mapping[str, str], *, force: bool) -> None:
        for name, git_id in refs.items():
            ref = Ref(prefix + name.encode())
            new = ObjectID(git_id.encode())
            old = self._repo.refs.as_dict().get(ref)
            if old == new:
                continue
            if old is not None and not force and not self._reaches(new, old):
                raise GitError(
                    f"{name} of the git repository is at {old.decode()}, which would be lost; force, or import it first"
                )
            if not self._repo.refs.set_if_equals(ref, old, new):
                raise GitError(f"somebody else moved {name} of the git repository; try again")

    def _reaches(self, start: ObjectID, goal: ObjectID) -> bool:
        seen, stack = {start}, [start]
        while stack:
            at = stack.pop()
            if at == goal:
                return True
            commit = self._repo[at]
            parents: Iterable[ObjectID] = commit.parents if isinstance(commit, Commit) else ()
            for parent in parents:
                if parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
        return False


def _depth(folder: str) -> int:
    return folder.count("/") + bool(folder)

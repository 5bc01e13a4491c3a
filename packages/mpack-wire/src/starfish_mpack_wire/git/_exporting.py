"""`export_git`: a store as a git repository, a function of the store alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from dulwich.errors import NotGitRepository
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from starfish_mpack_wire._model.entries import blob_of
from starfish_mpack_wire._model.records import CommitRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotFolder, SnapshotTree
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire._store.state import StoreState
from starfish_mpack_wire.errors import GitError
from starfish_mpack_wire.git._commits import (
    GIT_ID,
    git_bytes_of,
    native_bytes_of,
    odd_trees_of,
)
from starfish_mpack_wire.git._kept_objects import KEPT_BRANCH, KeptObjects, read_kept
from starfish_mpack_wire.git._trees import (
    FOLDER,
    TreeLine,
    is_odd,
    line_for,
    name_to_git,
    parse_tree,
    tree_bytes,
)

__all__ = ("ExportResult", "export_git")

OBJECTS_A_PACK = 20_000
COMMITS_READ_AT_ONCE = 1_000
NO_BLOB = bytes(20)
TYPES = {"tag": Tag.type_num, "tree": Tree.type_num, "blob": Blob.type_num}


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote."""

    commits: int
    """New commits of git."""
    branches: Mapping[str, str]
    """Name to SHA-1."""
    tags: Mapping[str, str]
    """Name to SHA-1."""
    notes: tuple[str, ...]
    """Parts of the store that git cannot hold, one sentence each."""

    def as_map(self) -> dict[str, Any]:
        """Return this as a JSON object."""
        return {
            "commits": self.commits,
            "branches": dict(self.branches),
            "tags": dict(self.tags),
            "notes": list(self.notes),
        }


def export_git(
    store: LocalStore,
    repository: str | PathLike[str],
    *,
    force: bool = False,
    lossy: bool = False,
) -> ExportResult:
    """Write all branches and tags into a git repository; the next time, the new ones.

    The result depends on the store alone: it is the same once at the end, after each commit, or from a clone.
    Everything that came from git gets the SHA-1 that it had. A branch that only a remote has is written as a branch.
    Metadata and unknown keys of commits made here, and empty directories, have no place in git: the notes say so.

    Args:
        store: the store to export.
        repository: the folder of a git repository; a bare one is made when it is missing.
        force: move branches and tags of git also where that loses commits.
        lossy: go on where something that came from git cannot be given its id again; the notes name it.

    Raises:
        GitError: the folder holds something else, a branch of git has commits that are not in the store, something of
            git cannot be given its id again, or the store is shallow or partial.
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
        return _Exporter(store, repo).run(state, force=force, lossy=lossy)
    finally:
        repo.close()


class _Exporter:
    def __init__(self, store: LocalStore, repo: Repo) -> None:
        self._store = store
        self._repo = repo
        self._objects: dict[bytes, tuple[ShaFile, None]] = {}
        self._blobs: dict[str, bytes] = {}
        self._trees: dict[bytes, bytes] = {}
        self._losses: dict[str, None] = {}
        self._notes: dict[str, None] = {}
        self._kept = KeptObjects()
        self._git_ids: dict[str, str] = {}
        for git_id, own in store.catalogue.foreign_commits().items():
            if ObjectID(git_id.encode()) in repo.object_store:
                self._git_ids[own] = git_id

    def run(self, state: StoreState, *, force: bool, lossy: bool) -> ExportResult:
        self._kept = read_kept(self._store)
        heads = self._heads(state.refs)
        tags = {
            name.removeprefix("tags/"): at
            for name, at in state.refs.items()
            if name.startswith("tags/")
        }
        order = [
            row.commit_id
            for row in self._store.log({*heads.values(), *tags.values(), *self._kept.tips})
        ]
        order.reverse()
        unknown = [own for own in order if own not in self._git_ids]
        self._seed(unknown)
        new: list[tuple[str, str]] = []
        for start in range(0, len(unknown), COMMITS_READ_AT_ONCE):
            part = unknown[start : start + COMMITS_READ_AT_ONCE]
            records = {each["commit_id"]: each for each in self._store.commits(part)}
            for own in part:
                record = records[own]
                if record["branch"] == KEPT_BRANCH:
                    continue
                git_id = self._git_ids[own] = self._write_commit(record)
                new.append((git_id, own))
        targets = {b"refs/heads/" + name.encode(): self._git_ids[at] for name, at in heads.items()}
        tagged = self._tags(tags)
        targets |= tagged
        targets |= self._other_refs(targets)
        self._flush()
        self._refuse_losses(lossy=lossy)
        self._move(targets, force=force)
        if not self._losses:
            self._store.catalogue.remember_foreign(new)
        return ExportResult(
            len(new),
            {name: self._git_ids[at] for name, at in heads.items()},
            {name[10:].decode(): sha for name, sha in tagged.items()},
            (*self._losses, *self._notes),
        )

    # -- refs ----------------------------------------------------------------------------------

    def _heads(self, refs: Mapping[str, str]) -> dict[str, str]:
        """All branches of the store, and those that only remotes have."""
        heads = {name[6:]: at for name, at in refs.items() if name.startswith("heads/")}
        elsewhere: dict[str, str] = {}
        for full, at in sorted(refs.items()):
            if not full.startswith("remotes/"):
                continue
            name = full.split("/", 2)[2]
            if name in heads or name == KEPT_BRANCH:
                continue
            if elsewhere.setdefault(name, at) != at:
                self._losses[
                    f"the branch {name} is at different commits on several remotes: check one out"
                ] = None
        heads |= elsewhere
        heads.pop(KEPT_BRANCH, None)
        return heads

    def _tags(self, tags: Mapping[str, str]) -> dict[bytes, str]:
        """The tags by their names in git: tag objects where git had them, else commits."""
        found: dict[bytes, str] = {}
        for name, at in tags.items():
            ref = b"refs/tags/" + name.encode()
            commit = self._git_ids[at]
            kept = self._kept.refs.get(ref)
            if kept is not None and self._write_kept(kept) == commit:
                found[ref] = kept
            else:
                found[ref] = commit
        return found

    def _other_refs(self, known: Mapping[bytes, str]) -> dict[bytes, str]:
        """Refs of git that are neither branches nor tags of commits."""
        found: dict[bytes, str] = {}
        for ref, sha in self._kept.refs.items():
            if ref in known:
                continue
            target = self._write_kept(sha)
            if target is None:
                shown = ref.decode("utf-8", "replace")
                self._losses[f"{shown} leads to {sha}, which the store does not hold"] = None
            elif ref.startswith(b"refs/tags/") and target in self._git_ids.values():
                continue  # a tag of a commit that was removed here
            else:
                found[ref] = sha
        return found

    def _write_kept(self, sha: str) -> str | None:
        """Write a kept object and all that it needs; the id of the commit or object behind its tags."""
        last: str | None = None
        waiting, seen = [sha], {sha}
        while waiting:
            at = waiting.pop()
            kind = next((each for each in TYPES if (each, at) in self._kept.objects), None)
            if kind is None:
                if ObjectID(at.encode()) not in self._repo.object_store and (
                    at.encode() not in self._objects
                ):
                    return None
                last = last or at
                continue
            raw = self._store.blob(self._kept.objects[kind, at])
            self._add(TYPES[kind], raw)
            if kind == "tag":
                below = [raw[7:47].decode("ascii", "replace")]
            else:
                last = last or at
                lines = parse_tree(raw) if kind == "tree" else []
                below = [line.sha.hex() for line in lines if not line.is_submodule]
            waiting += [each for each in below if each not in seen]
            seen.update(below)
        return last

    # -- commits and trees ---------------------------------------------------------------------

    def _write_commit(self, record: CommitRecord) -> str:
        parents = [self._git_ids[parent] for parent in record["parent_ids"]]
        tree = self._store.snapshot_tree(record["snapshot_id"])
        if tree.directories:
            self._note("empty directories have no place in git")
        was = record.get("metadata", {}).get(GIT_ID)
        top = self._write_tree(tree, odd_trees_of(record)).hex()
        raw = git_bytes_of(record, top, parents)
        if raw is None:
            raw = native_bytes_of(record, top, parents)
            if record.get("metadata") and was is None:
                self._note("metadata of commits that were made here have no place in git")
        git_id = self._add(Commit.type_num, raw).hex()
        if was is not None and was != git_id:
            self._losses[f"the commit {was} of git would become {git_id}"] = None
        return git_id

    def _write_tree(self, tree: SnapshotTree, odd: Mapping[str, str]) -> bytes:
        """Write the folders of a snapshot that are new; the id of the top one."""
        around = {""} if odd else set[str]()
        for path in odd:
            while path:
                around.add(path)
                path = path.rpartition("/")[0]  # noqa: PLW2901 - up to the top
        done: dict[str, bytes] = {}
        stack: list[tuple[str, SnapshotFolder, bool]] = [("", tree.root, False)]
        while stack:
            path, folder, ready = stack.pop()
            known = None if path in around else self._trees.get(folder.folder_id)
            if known is not None:
                done[path] = known
                continue
            below = [
                (f"{path}/{name}" if path else name, name, each) for name, each in folder.folders()
            ]
            if not ready:
                stack.append((path, folder, True))
                stack += [(inside, each, False) for inside, _, each in below]
                continue
            lines = [
                TreeLine(FOLDER, name_to_git(name), done[inside])
                for inside, name, _ in below
                if done[inside]
            ]
            lines += self._file_lines(folder)
            sha = NO_BLOB[:0] if not lines and path else self._write_lines(path, lines, odd)
            done[path] = sha
            if path not in around:
                self._trees[folder.folder_id] = sha
        return done[""]

    def _file_lines(self, folder: SnapshotFolder) -> Iterable[TreeLine]:
        for name, entry in folder.entries():
            blob = blob_of(entry)
            yield line_for(name, entry, NO_BLOB if blob is None else self._write_blob(blob))

    def _write_lines(self, path: str, lines: list[TreeLine], odd: Mapping[str, str]) -> bytes:
        sha = odd.get(path)
        if sha is not None:
            kept = self._kept.objects.get(("tree", sha))
            if kept is not None:
                return self._add(Tree.type_num, self._store.blob(kept))
            self._losses[
                f"the folder {path!r:.200} has the tree {sha} in git, whose bytes are on the branch "
                f"{KEPT_BRANCH}, which this store lacks"
            ] = None
        return self._add(Tree.type_num, tree_bytes(lines))

    def _write_blob(self, object_id: str) -> bytes:
        known = self._blobs.get(object_id)
        if known is None:
            known = self._blobs[object_id] = self._add(Blob.type_num, self._store.blob(object_id))
        return known

    def _seed(self, unknown: Iterable[str]) -> None:
        """Learn from commits that git has which ids their files and folders have there."""
        rows = self._store.catalogue.commits(list(unknown))
        edge = {parent for row in rows.values() for parent in row.parent_ids}
        for own in sorted(edge & self._git_ids.keys()):
            commit = self._repo[ObjectID(self._git_ids[own].encode())]
            if not isinstance(commit, Commit):
                continue
            stack = [(self._store.tree_of(own).root, bytes.fromhex(bytes(commit.tree).decode()))]
            while stack:
                folder, sha = stack.pop()
                raw = bytes(self._repo.object_store.get_raw(ObjectID(sha.hex().encode()))[1])
                lines = parse_tree(raw)
                by_name = {line.name: line for line in lines}
                normal = not is_odd(raw, lines)
                for name, entry in folder.entries():
                    line, blob = by_name.get(name_to_git(name)), blob_of(entry)
                    if line is not None and blob is not None and not line.is_folder:
                        self._blobs[blob] = line.sha
                for name, each in folder.folders():
                    line = by_name.get(name_to_git(name))
                    if line is not None and line.is_folder:
                        stack.append((each, line.sha))
                if normal and not self._odd_below(own):
                    self._trees[folder.folder_id] = sha

    def _odd_below(self, own: str) -> bool:
        return bool(odd_trees_of(self._store.commit(own)))

    # -- objects -------------------------------------------------------------------------------

    def _add(self, kind: int, raw: bytes) -> bytes:
        """Have an object in git; its 20 bytes."""
        written = ShaFile.from_raw_string(kind, raw)
        sha = bytes(written.id)
        if sha not in self._objects and ObjectID(sha) not in self._repo.object_store:
            self._objects[sha] = (written, None)
            if len(self._objects) >= OBJECTS_A_PACK:
                self._flush()
        return bytes.fromhex(sha.decode())

    def _flush(self) -> None:
        if self._objects:
            self._repo.object_store.add_objects(list(self._objects.values()))
            self._objects.clear()

    def _note(self, text: str) -> None:
        self._notes[text] = None

    def _refuse_losses(self, *, lossy: bool) -> None:
        if self._losses and not lossy:
            some = list(self._losses)
            named = "; ".join(some[:5]) + (f"; and {len(some) - 5} more" if len(some) > 5 else "")
            raise GitError(f"{named}. No ref was moved; --lossy goes on without")

    def _move(self, targets: Mapping[bytes, str], *, force: bool) -> None:
        there = {bytes(name): bytes(at) for name, at in self._repo.refs.as_dict().items()}
        for name, git_id in sorted(targets.items()):
            new, old = git_id.encode(), there.get(name)
            if old == new:
                continue
            shown = name.decode("utf-8", "replace")
            if old is not None and not force and not self._reaches(new, old):
                raise GitError(
                    f"{shown} of the git repository is at {old.decode()}, which would be lost; "
                    "force, or import it first"
                )
            if not self._repo.refs.set_if_equals(
                Ref(name), None if old is None else ObjectID(old), ObjectID(new)
            ):
                raise GitError(f"somebody else moved {shown} of the git repository; try again")

    def _reaches(self, start: bytes, goal: bytes) -> bool:
        seen, stack = {start}, [start]
        while stack:
            at = stack.pop()
            if at == goal:
                return True
            found = self._repo[ObjectID(at)]
            above: Iterable[bytes] = ()
            if isinstance(found, Commit):
                above = [bytes(each) for each in found.parents]
            elif isinstance(found, Tag):
                above = [bytes(found.object[1])]
            for parent in above:
                if parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
        return False

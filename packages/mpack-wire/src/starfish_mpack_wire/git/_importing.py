"""`import_git`: a whole git repository, as commits, branches and tags of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

from dulwich.errors import NotGitRepository
from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from starfish_mpack_wire._model.chunk_lists import chunk_ids
from starfish_mpack_wire._model.entries import Entry, blobs_in
from starfish_mpack_wire._model.manifest import difference_record
from starfish_mpack_wire._model.object_ids import commit_id
from starfish_mpack_wire._model.records import CommitRecord, SnapshotRecord
from starfish_mpack_wire._model.ref_names import is_ref_name
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.layout import MAX_SNAPSHOT_CHAIN
from starfish_mpack_wire._pack.writer import write_mpack
from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire._store.refusals import refuse_as_store_error
from starfish_mpack_wire._store.state import StoreState
from starfish_mpack_wire.errors import GitError, MPackFormatError, NonFastForwardError
from starfish_mpack_wire.git._commits import fields_of, odd_trees_of
from starfish_mpack_wire.git._kept_objects import (
    KEPT_BRANCH,
    KeptObjects,
    encode_refs,
    object_path,
    read_kept,
)
from starfish_mpack_wire.git._objects import GitObjects
from starfish_mpack_wire.git._trees import TreeLine, entry_for, name_from_git

__all__ = ("ImportResult", "import_git")

COMMITS_A_PACK = 5_000
"""An import that is interrupted has kept the packs that it finished."""
PARENTS_A_COMMIT = 1_000
HEADS, TAGS = b"refs/heads/", b"refs/tags/"


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import brought."""

    commits: int
    """New commits."""
    branches: Mapping[str, str]
    """Name to commit id."""
    tags: Mapping[str, str]
    """Name to commit id."""
    notes: tuple[str, ...]
    """Parts that were kept back, one sentence each; always empty without ``lossy``."""

    def as_map(self) -> dict[str, Any]:
        """Return this as a JSON object."""
        return {
            "commits": self.commits,
            "branches": dict(self.branches),
            "tags": dict(self.tags),
            "notes": list(self.notes),
        }


def import_git(
    store: LocalStore,
    repository: str | PathLike[str],
    *,
    force: bool = False,
    lossy: bool = False,
) -> ImportResult:
    """Take all refs of a git repository into a store; the next time, the new ones.

    One git history gives the same commit ids on every machine. `export_git` makes the same objects of git again, down
    to their SHA-1: ``git.*`` metadata hold the parts of a commit that our records have no field for, and the branch
    ``git-import`` the refs and objects that are neither branches nor plain tags.

    Args:
        store: the store to import into.
        repository: the folder of a git repository, bare or not. It is only read.
        force: move branches and tags also where that loses commits.
        lossy: go on where something cannot be carried, and name it in the result.

    Raises:
        GitError: it is not a git repository, lacks objects, or holds something that cannot be carried.
        NonFastForwardError: a branch of the store has commits of its own; nothing moved.
        StoreError: the disk is full.
    """
    try:
        repo = Repo(fspath(repository))
    except NotGitRepository as error:
        raise GitError(f"{Path(repository)} is not a git repository") from error
    try:
        return _Importer(store, repo).run(force=force, lossy=lossy)
    except KeyError as error:
        raise GitError(f"the git repository lacks the object {error}: is it shallow?") from error
    finally:
        repo.close()


@dataclass(slots=True)
class _Converted:
    """A commit that came in: its files here, its top tree in git, and which folders of it are odd."""

    tree: SnapshotTree
    git_tree: bytes | None
    odd: dict[str, str]


@dataclass(slots=True)
class _Change:
    upsert: dict[str, Entry]
    remove: set[str]
    odd: dict[str, str]


class _Importer:
    def __init__(self, store: LocalStore, repo: Repo) -> None:
        self._store = store
        self._repo = repo
        self._objects = GitObjects(repo)
        self._notes: list[str] = []
        known = store.catalogue.foreign_commits()
        absent = store.missing("commit", set(known.values()))
        self._ours = {git: own for git, own in known.items() if own not in absent}
        self._new: dict[str, str] = {}
        self._count = 0
        self._packs = 0
        self._converted: dict[str, _Converted] = {}
        self._chains: dict[str, int] = {}
        self._commits: dict[str, CommitRecord] = {}
        self._snapshots: dict[str, SnapshotRecord] = {}
        self._blobs: set[str] = set()
        self._kept: dict[str, Entry] = {}

    def run(self, *, force: bool, lossy: bool) -> ImportResult:
        refs = {
            bytes(name): bytes(at).decode()
            for name, at in sorted(self._repo.refs.as_dict().items())
            if name.startswith(b"refs/")
        }
        branches, tags, others = self._sort(refs)
        with self._store.building_on():
            before = read_kept(self._store)
            tips = [*branches.values(), *tags.values()]
            other_tips = [sha for at in others.values() for sha in self._keep(at)]
            order = list(self._unknown([*tips, *other_tips]))
            uses = Counter(parents[0] for _, parents in order if parents)
            for git_id, parents in order:
                self._convert(git_id, parents, uses)
            kept = self._keep_refs(others, other_tips, before)
            self._write()
        ours = self._ours
        moved = {name: ours[at] for name, at in branches.items()}
        if kept is not None:
            moved[KEPT_BRANCH] = kept
        tagged = {name: ours[at] for name, at in tags.items()}
        self._refuse_losses(tagged, force=force, lossy=lossy)
        self._move(moved, tagged, force=force)
        if self._packs > 1:
            self._store.repack(everything=False)
        moved.pop(KEPT_BRANCH, None)
        return ImportResult(self._count, moved, tagged, tuple(self._notes))

    # -- refs ----------------------------------------------------------------------------------

    def _sort(
        self, refs: Mapping[bytes, str]
    ) -> tuple[dict[str, str], dict[str, str], dict[bytes, str]]:
        """Branches and tags of commits by their names here, and all other refs."""
        branches: dict[str, str] = {}
        tags: dict[str, str] = {}
        others: dict[bytes, str] = {}
        for ref, at in refs.items():
            named = ref.startswith((HEADS, TAGS))
            name = ref.split(b"/", 2)[2].decode("utf-8", "replace") if named else ""
            legal = named and is_ref_name(name) and name.encode() == ref.split(b"/", 2)[2]
            commit = self._peeled(at)
            if ref.startswith(HEADS) and legal and commit == at and name != KEPT_BRANCH:
                branches[name] = at
                continue
            if ref.startswith(TAGS) and legal and commit is not None:
                tags[name] = commit
                if commit == at:
                    continue
            others[ref] = at
        return branches, tags, others

    def _peeled(self, sha: str) -> str | None:
        """The commit that an id leads to through tag objects; ``None`` where it is none."""
        target = self._repo[ObjectID(sha.encode())]
        while isinstance(target, Tag):
            target = self._repo[target.object[1]]
        return target.id.decode() if isinstance(target, Commit) else None

    def _keep(self, sha: str) -> Iterator[str]:
        """Keep an object of another ref with all that it needs; the commit that it leads to, if any."""
        waiting = [sha]
        while waiting:
            at = waiting.pop()
            target = self._repo[ObjectID(at.encode())]
            if isinstance(target, Commit):
                yield at
                continue
            if isinstance(target, Tag):
                kind = "tag"
                waiting.append(bytes(target.object[1]).decode())
            elif isinstance(target, Tree):
                kind = "tree"
                lines = self._objects.tree(bytes.fromhex(at)).lines
                waiting += [line.sha.hex() for line in lines if not line.is_submodule]
            else:
                kind = "blob" if isinstance(target, Blob) else "object"
            path = object_path(kind, at)
            if path not in self._kept:
                self._kept[path] = self._objects.blob_id(bytes.fromhex(at))

    def _keep_refs(
        self, others: Mapping[bytes, str], tips: Sequence[str], before: KeptObjects
    ) -> str | None:
        """Have the branch of kept objects at a commit that holds these; the commit, if there is one."""
        if not (others or self._kept) and before.head is None:
            return None
        base = self._store.tree_of(before.head)
        entries = self._kept | {"refs": self._objects.give(encode_refs(others))}
        upsert = {path: entry for path, entry in entries.items() if base.get(path) != entry}
        parents = [before.head] if before.head is not None else []
        held = set(before.tips and self._reached(before.tips))
        wanted = sorted({self._ours[each] for each in tips} - held)
        if not upsert and not wanted:
            return before.head
        tree = base.apply(upsert)
        self._add_snapshot(tree, base if before.head else None, upsert, set())
        while True:
            part, wanted = wanted[:PARENTS_A_COMMIT], wanted[PARENTS_A_COMMIT:]
            record: CommitRecord = {
                "commit_id": "",
                "branch": KEPT_BRANCH,
                "snapshot_id": tree.snapshot_id,
                "parent_ids": [*parents, *part],
                "message": "Refs and objects of git that are neither branches nor plain tags",
                "author": "mpack import-git",
                "committed_at": "1970-01-01T00:00:00+00:00",
            }
            own = record["commit_id"] = commit_id(record)
            self._commits[own] = record
            parents = [own]
            if not wanted:
                return own

    def _reached(self, tips: Sequence[str]) -> Iterator[str]:
        return (row.commit_id for row in self._store.log(tips))

    # -- commits -------------------------------------------------------------------------------

    def _unknown(self, tips: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        """The commits that are new with their parents, parents first."""
        done = set(self._ours)
        for tip in tips:
            stack: list[tuple[str, list[str] | None]] = [(tip, None)]
            while stack:
                git_id, parents = stack.pop()
                if git_id in done:
                    continue
                if parents is None:
                    parents = self._parents_of(git_id)
                    waiting = [parent for parent in parents if parent not in done]
                    if waiting:
                        stack.append((git_id, parents))
                        stack += [(parent, None) for parent in reversed(waiting)]
                        continue
                done.add(git_id)
                yield git_id, parents

    def _parents_of(self, git_id: str) -> list[str]:
        header = self._objects.raw(git_id)[1].partition(b"\n\n")[0].split(b"\n")
        return [line[7:].decode() for line in header if line.startswith(b"parent ")]

    def _convert(self, git_id: str, parents: list[str], uses: Counter[str]) -> None:
        raw = self._objects.raw(git_id)[1]
        git_tree = bytes.fromhex(raw[5:45].decode())
        base = self._base_of(parents[0]) if parents else None
        before = base or _Converted(SnapshotTree.empty(), None, {})
        change = _Change({}, set(), dict(before.odd))
        try:
            self._compare(before.git_tree, git_tree, change)
            remove = change.remove - change.upsert.keys()
            tree = before.tree.apply(change.upsert, sorted(remove))
        except (MPackFormatError, GitError) as error:
            raise GitError(f"commit {git_id} of git cannot be carried: {error}") from error
        self._add_snapshot(tree, base.tree if base else None, change.upsert, remove)
        record = cast(
            "CommitRecord",
            {
                "commit_id": "",
                "snapshot_id": tree.snapshot_id,
                "parent_ids": list(dict.fromkeys(self._ours[parent] for parent in parents)),
                **fields_of(raw, git_id, change.odd),
            },
        )
        own = record["commit_id"] = commit_id(record)
        self._commits[own] = record
        self._ours[git_id] = self._new[git_id] = own
        self._count += 1
        if uses[git_id]:
            self._converted[git_id] = _Converted(tree, git_tree, change.odd)
        if parents:
            uses[parents[0]] -= 1
            if not uses[parents[0]]:
                self._converted.pop(parents[0], None)
        if len(self._commits) >= COMMITS_A_PACK:
            self._write()

    def _base_of(self, git_id: str) -> _Converted:
        found = self._converted.get(git_id)
        if found is None:
            record = self._store.commit(self._ours[git_id])
            raw = self._objects.raw(git_id)[1]
            found = self._converted[git_id] = _Converted(
                self._store.snapshot_tree(record["snapshot_id"]),
                bytes.fromhex(raw[5:45].decode()),
                odd_trees_of(record),
            )
        return found

    def _compare(self, before: bytes | None, after: bytes, change: _Change) -> None:
        """Collect the entries in which two trees of git differ."""
        pairs: list[tuple[str, bytes | None, bytes | None]] = [("", before, after)]
        while pairs:
            path, old, new = pairs.pop()
            if old == new:
                continue
            was = {line.name: line for line in self._objects.tree(old).lines} if old else {}
            now = self._lines_of(path, new, change) if new else {}
            if not new:
                change.odd.pop(path, None)
            for name in was.keys() | now.keys():
                one, two = was.get(name), now.get(name)
                if one == two:
                    continue
                text = name_from_git(name)
                below = f"{path}/{text}" if path else text
                one_tree = one.sha if one is not None and one.is_folder else None
                two_tree = two.sha if two is not None and two.is_folder else None
                if one_tree or two_tree:
                    pairs.append((below, one_tree, two_tree))
                if one is not None and one_tree is None:
                    change.remove.add(below)
                if two is not None and two_tree is None:
                    blob = "" if two.is_submodule else self._objects.blob_id(two.sha)
                    change.upsert[below] = entry_for(two, blob)

    def _lines_of(self, path: str, new: bytes, change: _Change) -> dict[bytes, TreeLine]:
        """The entries of a changed folder by name, and whether it is odd."""
        found = self._objects.tree(new)
        now = {line.name: line for line in found.lines}
        if len(now) != len(found.lines):
            raise GitError(f"the folder {path!r:.200} has a name twice")
        if not now and path:
            raise GitError(f"the folder {path!r:.200} is empty, and a snapshot has no such entry")
        change.odd.pop(path, None)
        if found.odd:
            change.odd[path] = new.hex()
            self._kept[object_path("tree", new.hex())] = self._objects.blob_id(new)
        return now

    def _add_snapshot(
        self,
        tree: SnapshotTree,
        base: SnapshotTree | None,
        upsert: dict[str, Entry],
        remove: set[str],
    ) -> None:
        snapshot_id = tree.snapshot_id
        self._blobs.update(blobs_in(upsert.values()))
        if snapshot_id in self._snapshots or not self._store.missing("snapshot", [snapshot_id]):
            return
        chain = 0 if base is None else self._chain_of(base.snapshot_id) + 1
        record: SnapshotRecord
        if base is None or chain >= MAX_SNAPSHOT_CHAIN:
            chain, record = 0, difference_record(snapshot_id, tree.flat(), None, None)
        else:
            record = {
                "snapshot_id": snapshot_id,
                "parent_snapshot_id": base.snapshot_id,
                "upsert": upsert,
                "remove": sorted(remove),
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
        """Write the commits so far into a pack, so that the next call has only new ones."""
        if not self._commits:
            return
        large = self._objects.chunk_lists(self._blobs)
        blobs = self._store.missing("blob", self._blobs | chunk_ids(large))
        with self._store.incoming.new_file() as file:
            with refuse_as_store_error("cannot write", file), file.open("wb") as out:
                written = write_mpack(
                    out, self._commits.values(), self._snapshots.values(), blobs, self._objects
                )
            self._store.adopt(file, written.mpack_id)
        self._store.catalogue.remember_foreign(self._new.items())
        self._packs += 1
        self._new, self._commits, self._snapshots, self._blobs = {}, {}, {}, set()

    # -- moving --------------------------------------------------------------------------------

    def _refuse_losses(self, tags: Mapping[str, str], *, force: bool, lossy: bool) -> None:
        refs = self._store.state().refs
        for name, to in tags.items():
            at = refs.get(f"tags/{name}")
            if at is not None and at != to and not force:
                self._notes.append(f"the tag {name} names another commit here and stays")
        if self._notes and not lossy:
            named = "; ".join(self._notes[:5]) + (" …" if len(self._notes) > 5 else "")
            raise GitError(f"{named}. Use --force to move them, or --lossy to go on without")

    def _move(self, branches: dict[str, str], tags: dict[str, str], *, force: bool) -> None:
        store = self._store

        def moved(state: StoreState) -> StoreState:
            refs = dict(state.refs)
            for name, to in branches.items():
                at = refs.get(f"heads/{name}")
                if at is not None and not force and not store.is_ancestor(at, to):
                    if store.is_ancestor(to, at):
                        continue  # git has not seen the commits that were made here
                    raise NonFastForwardError(name, to, at)
                refs[f"heads/{name}"] = to
            for name, to in tags.items():
                if force or f"tags/{name}" not in refs:
                    refs[f"tags/{name}"] = to
            own = [name for name in branches if name != KEPT_BRANCH]
            branch = state.branch
            if f"heads/{branch}" not in refs and own:
                head = self._repo.refs.read_ref(Ref(b"HEAD")) or b""
                name = bytes(head).removeprefix(b"ref: refs/heads/").decode("utf-8", "replace")
                branch = name if name in own else min(own)
            return replace(state, refs=refs, branch=branch)

        store.change_state(moved)

"""Status, commit and checkout of a folder; and what must never happen to it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from starfish_mpack_wire import (
    LocalChangesError,
    MPackFormatError,
    ObjectNotFoundError,
    UnsafePathError,
    UnsupportedFilesError,
    blob_id,
    commit_id,
)
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.blob_source import GivenBlobs
from starfish_mpack_wire._store.packing import write_commit
from starfish_mpack_wire.working_tree import NameFolding, WorkingTree
from starfish_mpack_wire.working_tree._safe_folder import SafeFolder
from starfish_mpack_wire.working_tree._scan import scan_folder
from starfish_mpack_wire.working_tree._stat_cache import StatCache


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[WorkingTree]:
    (tmp_path / "w").mkdir()
    with WorkingTree.create(tmp_path / "w") as tree:
        yield tree


def write(root: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def contents(root: Path) -> dict[str, bytes | None]:
    """Files with their bytes, empty folders as None; those below .mpack left out."""
    found: dict[str, bytes | None] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.split("/")[0] == ".mpack":
            continue
        if path.is_file():
            found[name] = path.read_bytes()
        elif not any(path.iterdir()):
            found[name] = None
    return found


def commit(tree: WorkingTree, files: dict[str, bytes] | None = None) -> str:
    write(tree.root, files or {})
    record = tree.commit("m", author="Ada")
    assert record is not None
    return record["commit_id"]


def foreign_commit(
    tree: WorkingTree, manifest: dict[str, bytes], directories: tuple[str, ...] = ()
) -> str:
    """A commit with paths that this folder would not have: as a peer may send it."""
    snapshot = SnapshotTree.empty().apply(
        {path: blob_id(content) for path, content in manifest.items()}, (), directories
    )
    record = {
        "commit_id": "",
        "branch": "main",
        "snapshot_id": snapshot.snapshot_id,
        "parent_ids": [],
        "message": "m",
        "author": "Eve",
        "committed_at": "2026-01-31T12:00:00Z",
    }
    record["commit_id"] = commit_id(record)
    by_id = {blob_id(content): content for content in manifest.values()}
    write_commit(
        tree.store,
        record,
        snapshot,
        None,
        blobs=by_id,
        source=GivenBlobs(
            [{"object_id": each, "content": content} for each, content in by_id.items()]
        ),
    )  # type: ignore[arg-type]
    return str(record["commit_id"])


def test_status_tells_what_a_commit_would_change(tree: WorkingTree) -> None:
    commit(tree, {"same": b"1", "changed": b"1", "gone": b"1"})
    write(tree.root, {"changed": b"2", "new/file": b"3"})
    (tree.root / "gone").unlink()
    (tree.root / "hollow").mkdir()

    status = tree.status()

    assert (status.added, status.modified, status.removed) == (
        ("new/file",),
        ("changed",),
        ("gone",),
    )
    assert status.added_directories == ("hollow",)
    assert not status.clean
    commit(tree)
    assert tree.status().clean


def test_a_commit_without_changes_is_none_unless_it_is_asked_for(tree: WorkingTree) -> None:
    commit(tree, {"a": b"1"})

    assert tree.commit("m", author="Ada") is None
    assert tree.commit("m", author="Ada", allow_empty=True) is not None


def test_unchanged_files_are_not_read_again(
    tree: WorkingTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tree, {f"f{n}": b"x" for n in range(5)})
    for n in range(5):
        os.utime(tree.root / f"f{n}", ns=(10**18, 10**18))
    monkeypatch.setattr(StatCache, "now_ns", lambda self: 2 * 10**18 + 10**19)
    tree.status()
    read: list[str] = []
    hash_of = SafeFolder.hash
    monkeypatch.setattr(
        SafeFolder, "hash", lambda self, path: (read.append(path), hash_of(self, path))[1]
    )

    write(tree.root, {"f3": b"y"})
    assert tree.status().modified == ("f3",)

    assert read == ["f3"]


def test_a_change_within_one_tick_of_the_clock_is_seen(tree: WorkingTree) -> None:
    """The same size, the same time: only reading it again shows the change."""
    commit(tree, {"a": b"one"})
    file = tree.root / "a"
    for text in (b"two", b"six", b"ten"):
        before = file.stat()
        tree.status()
        file.write_bytes(text)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

        assert tree.status().modified == ("a",)


def test_pipes_are_refused_by_name(tree: WorkingTree) -> None:
    write(tree.root, {"a": b"1"})
    os.mkfifo(tree.root / "pipe")

    assert tree.status().unsupported == {"pipe": "a pipe"}
    with pytest.raises(UnsupportedFilesError, match="pipe"):
        tree.commit("m", author="Ada")
    (tree.root / ".mpackignore").write_text("pipe\n*.tmp\nbuild/\n")
    write(tree.root, {"x.tmp": b"1", "build/out": b"1"})
    assert tree.store.tree_of(commit(tree)).manifest.keys() == {".mpackignore", "a"}


def test_programs_and_links_are_entries_of_their_kind(tree: WorkingTree) -> None:
    write(tree.root, {"run.sh": b"#!", "plain": b"1"})
    (tree.root / "run.sh").chmod(0o755)
    (tree.root / "link").symlink_to("/etc/passwd")
    (tree.root / os.fsdecode(b"bad")).symlink_to(os.fsdecode(b"\xff/far"))
    first = commit(tree)

    manifest = tree.store.tree_of(first).manifest
    assert manifest == {
        "run.sh": {"kind": "executable", "id": blob_id(b"#!")},
        "plain": blob_id(b"1"),
        "link": {"kind": "symlink", "id": blob_id(b"/etc/passwd")},
        "bad": {"kind": "symlink", "id": blob_id(b"\xff/far")},
    }
    assert tree.status().clean


def test_a_changed_program_bit_is_a_change_and_a_checkout_brings_it_back(tree: WorkingTree) -> None:
    first = commit(tree, {"run.sh": b"#!"})
    (tree.root / "run.sh").chmod(0o750)
    assert tree.status().modified == ("run.sh",)
    second = commit(tree)

    tree.checkout("one", start=first)
    assert (tree.root / "run.sh").stat().st_mode & 0o777 == 0o640
    tree.checkout("two", start=second)
    assert (tree.root / "run.sh").stat().st_mode & 0o777 == 0o750


def test_a_link_that_becomes_a_file_and_a_folder_is_never_followed(
    tree: WorkingTree, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tree.root / "x").symlink_to(outside)
    first = commit(tree)
    (tree.root / "x").unlink()
    second = commit(tree, {"x": b"file"})
    (tree.root / "x").unlink()
    third = commit(tree, {"x/inside": b"1"})

    for name, at in (("a", first), ("b", second), ("c", third), ("d", first), ("e", third)):
        tree.checkout(name, start=at)
        assert tree.status().clean
    assert list(outside.iterdir()) == []
    tree.checkout("f", start=first)
    assert (tree.root / "x").readlink() == outside


def test_a_gitlink_is_a_folder_that_is_not_looked_into(tree: WorkingTree) -> None:
    link = {"kind": "gitlink", "id": "sha1:" + "12" * 20}
    first = commit(tree, {"a": b"1"})
    snapshot = tree.store.tree_of(first).apply({"sub/module": link})
    record = {**tree.store.commit(first), "snapshot_id": snapshot.snapshot_id}
    record["commit_id"] = commit_id(record)
    write_commit(tree.store, record, snapshot, None, blobs=[], source=GivenBlobs([]))  # type: ignore[arg-type]

    tree.checkout("with", start=record["commit_id"])
    assert (tree.root / "sub/module").is_dir()
    assert tree.status().clean
    write(tree.root, {"sub/module/own": b"of the other repository", "a": b"2"})
    assert tree.status().modified == ("a",)
    assert tree.store.tree_of(commit(tree)).get("sub/module") == link
    (tree.root / "sub/module/own").unlink()
    tree.checkout("without", start=first)
    assert not (tree.root / "sub").exists()


def test_rule_04_shapes_that_are_easy_to_lose(tree: WorkingTree, tmp_path: Path) -> None:
    nfc, nfd = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    first = {"zero": b"", "one": b"same", "two": b"same", "thing": b"file", nfc: b"c", nfd: b"d"}
    write(tree.root, first)
    (tree.root / "hollow/below").mkdir(parents=True)
    at_first = commit(tree)
    (tree.root / "thing").unlink()
    at_second = commit(tree, {"thing/inside": b"folder now"})
    (tree.root / "thing/inside").unlink()
    (tree.root / "thing").rmdir()
    at_third = commit(tree, {"thing": b"file again"})

    tree.checkout("a", start=at_first)
    assert contents(tree.root) == {**first, "hollow/below": None}
    tree.checkout("b", start=at_second)
    assert (tree.root / "thing/inside").read_bytes() == b"folder now"
    tree.checkout("c", start=at_third)
    assert contents(tree.root) == {**first, "thing": b"file again", "hollow/below": None}
    assert tree.status().clean


def test_rule_04_ten_thousand_files(tree: WorkingTree) -> None:
    files = {f"d{n % 97}/f{n}": b"%d" % (n % 50) for n in range(10_000)}
    at = foreign_commit(tree, files)

    tree.checkout("many", start=at)

    assert contents(tree.root) == files


@pytest.mark.parametrize(
    "path",
    [
        ".mpack/state.json",
        ".MPACK/x",
        "a/.mpack/x",
        ".mpack./x",
        ".mp\u200back/x",
        "MPACK~1/x",
        ".git/hooks/post-checkout",
    ],
)
def test_rule_05_the_stores_own_folder_cannot_be_written(tree: WorkingTree, path: str) -> None:
    before = (tree.store.path / "format").read_bytes()
    at = foreign_commit(tree, {path: b"evil", "good": b"1"})

    for force in (False, True):
        with pytest.raises(UnsafePathError):
            tree.checkout("x", start=at, force=force)

    assert contents(tree.root) == {}
    assert (tree.store.path / "format").read_bytes() == before
    assert tree.store.branches() == {}


@pytest.mark.parametrize("path", ["../out", "/etc/x", "a//b", "a/./b", "a/../../b", "a\\b", ""])
def test_rule_05_paths_that_lead_elsewhere_are_refused_before_a_checkout(
    tree: WorkingTree, path: str
) -> None:
    with pytest.raises(MPackFormatError):
        foreign_commit(tree, {path: b"evil"})


@pytest.mark.parametrize("force", [False, True])
def test_rule_05_no_link_is_followed(tree: WorkingTree, tmp_path: Path, *, force: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    (tree.root / "dir").symlink_to(outside)
    (tree.root / "link").symlink_to(outside / "file")
    at = foreign_commit(tree, {"dir/file": b"evil", "link": b"evil"})

    if force:
        tree.checkout("x", start=at, force=True)
        assert contents(tree.root) == {"dir/file": b"evil", "link": b"evil"}
        assert not (tree.root / "dir").is_symlink()
    else:
        with pytest.raises(LocalChangesError):
            tree.checkout("x", start=at)

    assert (outside / "file").read_bytes() == b"precious"
    assert [path.name for path in outside.iterdir()] == ["file"]


def test_rule_05_a_folder_that_becomes_a_link_meanwhile_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "root/dir").mkdir(parents=True)
    new = tmp_path / "new"
    new.write_bytes(b"evil")
    with SafeFolder(tmp_path / "root") as folder:
        (tmp_path / "root/dir").rmdir()
        (tmp_path / "root/dir").symlink_to(outside)

        with pytest.raises(UnsafePathError):
            folder.place("dir/file", new)
        with pytest.raises(UnsafePathError):
            folder.remove("dir/file")

    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("folding", "paths"),
    [
        (NameFolding(case=True), ("readme", "README")),
        (NameFolding(case=True), ("src/a", "SRC/b")),
        (NameFolding(normalization=True), ("\u00e9", "e\u0301")),
        (NameFolding(case=True, normalization=True), ("\u00c9", "e\u0301")),
    ],
)
def test_rule_05_names_that_the_file_system_takes_for_one_are_refused(
    tmp_path: Path, folding: NameFolding, paths: tuple[str, str]
) -> None:
    WorkingTree.create(tmp_path).close()
    with WorkingTree(tmp_path, folding=folding) as tree:
        at = foreign_commit(tree, dict.fromkeys(paths, b"1"))

        with pytest.raises(UnsafePathError, match="takes it for"):
            tree.checkout("x", start=at, force=True)

        assert contents(tmp_path) == {}


def test_rule_05_a_name_of_more_than_255_bytes_is_refused_before_anything_is_written(
    tree: WorkingTree,
) -> None:
    at = foreign_commit(tree, {"a": b"1", "x" * 256: b"2"})

    with pytest.raises(UnsafePathError, match="255"):
        tree.checkout("x", start=at)
    assert contents(tree.root) == {}


def test_a_checkout_keeps_local_changes_that_it_need_not_touch(tree: WorkingTree) -> None:
    first = commit(tree, {"a": b"1", "b": b"1"})
    commit(tree, {"a": b"2"})
    write(tree.root, {"b": b"mine", "new": b"mine too"})

    tree.checkout("old", start=first)

    assert contents(tree.root) == {"a": b"1", "b": b"mine", "new": b"mine too"}


@pytest.mark.parametrize(
    "change",
    [{"a": b"mine"}, {"fresh": b"mine"}, {"fresh/x": b"mine"}],
    ids=["changed", "in the way", "folder"],
)
def test_a_checkout_never_destroys_what_no_commit_holds(
    tree: WorkingTree, change: dict[str, bytes]
) -> None:
    first = commit(tree, {"a": b"1"})
    second = commit(tree, {"a": b"2", "fresh": b"1"})
    tree.checkout("old", start=first)
    write(tree.root, change)
    before = contents(tree.root)

    with pytest.raises(LocalChangesError):
        tree.checkout("main")
    assert contents(tree.root) == before
    assert tree.store.state().branch == "old"

    tree.checkout("main", force=True)
    assert contents(tree.root) == {"a": b"2", "fresh": b"1"}
    assert tree.head() == second


def test_a_file_that_changes_while_a_checkout_runs_is_left_alone(
    tree: WorkingTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = commit(tree, {"a": b"1", "z": b"1"})
    commit(tree, {"a": b"2", "z": b"2"})
    place = SafeFolder.place

    def place_and_interfere(self: SafeFolder, path: str, source: Path) -> os.stat_result:
        done = place(self, path, source)
        (tree.root / "z").write_bytes(b"just typed")
        return done

    monkeypatch.setattr(SafeFolder, "place", place_and_interfere)
    with pytest.raises(LocalChangesError):
        tree.checkout("old", start=first)

    assert (tree.root / "z").read_bytes() == b"just typed"
    assert tree.store.state().branch == "main"


def test_permissions_of_a_file_stay_when_its_content_is_replaced(tree: WorkingTree) -> None:
    first = commit(tree, {"notes": b"1"})
    (tree.root / "notes").chmod(0o600)
    commit(tree, {"notes": b"2"})

    tree.checkout("old", start=first)

    assert (tree.root / "notes").stat().st_mode & 0o777 == 0o600


def test_a_blob_that_is_missing_stops_a_checkout_before_it_begins(tree: WorkingTree) -> None:
    commit(tree, {"a": b"1"})
    snapshot = SnapshotTree.empty().apply({"x": blob_id(b"far away"), "a": blob_id(b"1")})
    record = {**tree.store.commit(tree.head() or ""), "snapshot_id": snapshot.snapshot_id}
    record["commit_id"] = commit_id(record)
    write_commit(tree.store, record, snapshot, None, blobs=[], source=GivenBlobs([]))  # type: ignore[arg-type]

    with pytest.raises(ObjectNotFoundError):
        tree.checkout("x", start=record["commit_id"])
    assert contents(tree.root) == {"a": b"1"}


names = st.sampled_from(["a", "b", "a/b", "a/b/c", "d/e", "d", "f g", "\u00e9"])


@given(
    versions=st.lists(
        st.dictionaries(names, st.binary(max_size=3), max_size=5), min_size=1, max_size=4
    ),
    order=st.lists(st.integers(0, 3), max_size=6),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_checkout_gives_exactly_what_was_committed(
    versions: list[dict[str, bytes]], order: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("w")
    with WorkingTree.create(root) as tree:
        kept: list[dict[str, bytes]] = []
        for version in versions:
            legal = {
                path: content
                for path, content in version.items()
                if not any(other.startswith(f"{path}/") for other in version)
            }
            at = foreign_commit(tree, legal)
            tree.checkout(f"v{len(kept)}", start=at)
            assert contents(root) == legal
            kept.append(legal)
        for number in order:
            if number < len(kept):
                tree.checkout(f"v{number}")
                assert contents(root) == kept[number]
                assert tree.status().clean


def test_a_scan_of_a_folder_that_loses_files_meanwhile_goes_on(
    tree: WorkingTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tree.root, {"a": b"1", "b": b"1"})
    hash_of = SafeFolder.hash

    def hash_and_remove(self: SafeFolder, path: str) -> str:
        (tree.root / "b").unlink(missing_ok=True)
        return hash_of(self, path)

    monkeypatch.setattr(SafeFolder, "hash", hash_and_remove)
    with SafeFolder(tree.root) as folder:
        found = scan_folder(folder, StatCache(tree.store.path / "none"), {})

    assert set(found.files) == {"a"}

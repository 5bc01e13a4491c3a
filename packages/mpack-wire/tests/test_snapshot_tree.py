"""Trees of snapshots: a step at a time gives what one step gives, and shares what it did not touch."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_mpack_wire import MPackFormatError, SnapshotTree, blob_id, snapshot_id
from starfish_mpack_wire.testing.strategies import paths
from starfish_protocol import cbor

ONE, TWO = blob_id(b"1"), blob_id(b"2")


def id_by_the_book(manifest: dict[str, str], directories: list[str]) -> str:
    """The id as docs/mpack-format.md defines it, with the CBOR of another module."""
    top: dict[str, Any] = {}
    for path in directories:
        here = top
        for part in path.split("/"):
            here = here.setdefault(part, {})
    for path, object_id in manifest.items():
        *above, name = path.split("/")
        here = top
        for part in above:
            here = here.setdefault(part, {})
        here[name] = bytes.fromhex(object_id[7:])

    def digest(folder: dict[str, Any]) -> bytes:
        entries = {
            name: [digest(entry)] if isinstance(entry, dict) else entry
            for name, entry in folder.items()
        }
        return hashlib.sha256(cbor.encode(["starfish.folder.v1", entries])).digest()

    return "sha256:" + digest(top).hex()


@given(
    changes=st.lists(
        st.tuples(
            paths(), st.sampled_from(["write", "write", "remove", "directory"]), st.integers(0, 3)
        ),
        max_size=20,
    )
)
def test_small_steps_give_the_tree_of_one_step_and_leave_the_trees_before(changes) -> None:
    tree = SnapshotTree.empty()
    trees = []
    for path, change, number in changes:
        trees.append((tree, tree.snapshot_id, tree.manifest, tree.directories))
        try:
            if change == "write":
                above = {path.rsplit("/", cut)[0] for cut in range(1, path.count("/") + 1)}
                listed = set(tree.directories) - above
                tree = tree.apply({path: blob_id(b"%d" % number)}, directories=listed)
            elif change == "remove":
                tree = tree.apply({}, [path])
            else:
                tree = tree.apply({}, directories={*tree.directories, path})
        except MPackFormatError:
            continue
    manifest, directories = tree.manifest, list(tree.directories)

    assert tree.snapshot_id == snapshot_id(manifest, directories)
    assert tree.snapshot_id == id_by_the_book(manifest, directories)
    assert list(manifest) == sorted(manifest)
    assert len(tree) == len(manifest)
    assert all(tree.get(path) == each for path, each in manifest.items())
    for before, object_id, files, listed in trees:
        assert (before.snapshot_id, before.manifest, before.directories) == (
            object_id,
            files,
            listed,
        )


@given(
    names=st.lists(
        st.text(min_size=1, max_size=400).filter(lambda name: "/" not in name), max_size=30
    )
)
def test_names_of_any_length_and_script_are_ordered_as_cbor_orders_them(names: list[str]) -> None:
    manifest = {}
    for name in names:
        try:
            snapshot_id({name: ONE})
        except MPackFormatError:
            continue
        manifest[name] = ONE

    assert snapshot_id(manifest) == id_by_the_book(manifest, [])


@pytest.mark.parametrize("count", [23, 24, 255, 256, 65_535, 65_536])
def test_folders_of_any_size_have_the_id_of_the_book(count: int) -> None:
    manifest = {f"{number:05}": ONE for number in range(count)}

    assert snapshot_id(manifest) == id_by_the_book(manifest, [])


def test_what_a_change_does_not_touch_is_shared() -> None:
    tree = SnapshotTree.empty().apply({"a/b/c": ONE, "x/y/z": ONE})

    later = tree.apply({"a/b/d": TWO})

    assert later._root.folders["x"] is tree._root.folders["x"]
    assert later._root.folders["a"] is not tree._root.folders["a"]


def test_a_folder_goes_with_its_last_file_and_stays_when_it_is_listed() -> None:
    tree = SnapshotTree.empty().apply({"a/b/c": ONE})

    assert tree.apply({}, ["a/b/c"]).snapshot_id == SnapshotTree.empty().snapshot_id
    assert tree.apply({}, ["a/b/c"], ["a/b"]).directories == ("a/b",)
    assert tree.apply({}, ["a/b/c"], ["a"]).directories == ("a",)
    assert tree.apply({}, ["a/b/c"], ["a"]).apply({}, [], []).snapshot_id == (
        SnapshotTree.empty().snapshot_id
    )


def test_files_below_a_folder_are_listed_alone() -> None:
    tree = SnapshotTree.empty().apply({"a/b": ONE, "a/c/d": TWO, "ab": ONE})

    assert dict(tree.files("a")) == {"a/b": ONE, "a/c/d": TWO}
    assert dict(tree.files("a/c")) == {"a/c/d": TWO}
    assert dict(tree.files("a/b")) == dict(tree.files("absent")) == {}
    assert "a/b" in tree
    assert "a" not in tree
    assert tree.get("absent/b") is None


@pytest.mark.parametrize(
    ("upsert", "remove", "directories", "match"),
    [
        ({}, ["absent"], None, "not there"),
        ({}, ["folder"], None, "not there"),
        ({}, ["folder/absent"], None, "not there"),
        ({}, ["file/below"], None, "is a file"),
        ({}, ["absent/file"], None, "not there"),
        ({"file": ONE}, ["file"], None, "both"),
        ({"file/below": ONE}, [], None, "is a file"),
        ({"folder": ONE}, [], None, "is a folder"),
        ({"empty/file": ONE}, [], None, "listed as empty"),
        ({}, [], ["folder"], "listed as empty"),
        ({}, [], ["empty", "empty/below"], "listed as empty"),
        ({}, [], ["empty", "file"], "is a file|listed as empty"),
        ({"x": "sha256:00"}, [], None, "not an id"),
        ({}, ["file", "file"], None, "not there"),
    ],
)
def test_a_change_that_contradicts_the_tree_is_refused_and_nothing_is_changed(
    upsert, remove, directories, match: str
) -> None:
    tree = SnapshotTree.empty().apply({"file": ONE, "folder/file": ONE}, directories=["empty"])
    before = tree.snapshot_id

    with pytest.raises(MPackFormatError, match=match):
        tree.apply(upsert, remove, directories)

    assert (tree.snapshot_id, snapshot_id(tree.manifest, tree.directories)) == (before, before)


def test_a_path_as_deep_as_it_may_be_overflows_no_stack() -> None:
    path = "a/" * 2047 + "b"

    tree = SnapshotTree.empty().apply({path: ONE})

    assert list(tree.manifest) == [path]
    assert tree.apply({}, [path]).snapshot_id == SnapshotTree.empty().snapshot_id


def test_a_decoded_change_gives_the_tree_of_the_same_change_checked_again() -> None:
    tree = SnapshotTree.empty().apply({"a/b": ONE, "c": ONE}, directories=["d/e"])
    change = {"a/b": TWO, "a/f/g": ONE}, ["c"], ["d/h"]

    decoded = tree.apply(*change, decoded=True)

    assert decoded.manifest == {"a/b": TWO, "a/f/g": ONE}
    assert decoded.snapshot_id == tree.apply(*change).snapshot_id

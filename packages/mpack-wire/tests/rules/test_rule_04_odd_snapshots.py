"""Rule 4: files and folders that are rare and legal travel like all others."""

from __future__ import annotations

import unicodedata

import pytest

from starfish_mpack_wire import SnapshotTree, blob_id, build_mpack, parse_wire_mpack, snapshot_id


def travel(*changes):
    """Send snapshots, each a change of the one before, through a pack; give the trees again."""
    tree, snapshots, blobs, parent = SnapshotTree.empty(), [], {}, None
    for files, remove, directories in changes:
        ids = {path: blob_id(content) for path, content in files.items()}
        blobs |= dict(zip(ids.values(), files.values(), strict=True))
        tree = tree.apply(ids, remove, directories)
        snapshots.append(
            {
                "snapshot_id": tree.snapshot_id,
                "parent_snapshot_id": parent,
                "upsert": ids,
                "remove": remove,
                "directories": list(tree.directories),
            }
        )
        parent = tree.snapshot_id
    given = [{"object_id": each, "content": content} for each, content in blobs.items()]
    parsed = parse_wire_mpack(build_mpack([], snapshots, given))
    assert {each["object_id"]: each["content"] for each in parsed["blobs"]} == blobs
    trees, tree = [], SnapshotTree.empty()
    for record in parsed["snapshots"]:
        tree = tree.apply(record["upsert"], record["remove"], record["directories"])
        assert tree.snapshot_id == record["snapshot_id"]
        assert snapshot_id(tree.manifest, tree.directories) == tree.snapshot_id
        trees.append(tree)
    return trees


def test_rule_04_zero_byte_files() -> None:
    (tree,) = travel(({"empty": b"", "folder/empty": b"", "full": b"x"}, [], []))

    assert tree.get("empty") == tree.get("folder/empty") == blob_id(b"")


def test_rule_04_one_blob_at_two_paths() -> None:
    one, two = travel(({"a": b"same", "b": b"same"}, [], []), ({"c": b"same"}, ["a"], []))

    assert set(one.manifest.values()) == set(two.manifest.values()) == {blob_id(b"same")}


@pytest.mark.parametrize(
    ("before", "after"),
    [({"a": b"file"}, {"a/b/c": b"deep"}), ({"a/b/c": b"deep"}, {"a": b"file"})],
    ids=["a file becomes a folder", "a folder becomes a file"],
)
def test_rule_04_files_and_folders_change_places(before, after) -> None:
    first, second = travel((before, [], []), (after, list(before), []))

    assert (list(first.manifest), list(second.manifest)) == (list(before), list(after))


def test_rule_04_nfc_and_nfd_names_side_by_side() -> None:
    nfc = unicodedata.normalize("NFC", "é.txt")
    nfd = unicodedata.normalize("NFD", "é.txt")

    (tree,) = travel(({nfc: b"composed", nfd: b"decomposed"}, [], []))

    assert len(tree) == 2
    assert tree.get(nfc) == blob_id(b"composed")
    assert tree.get(nfd) == blob_id(b"decomposed")


def test_rule_04_snapshots_of_ten_thousand_files() -> None:
    flat = {f"file {number}": b"%d" % (number % 50) for number in range(10_000)}
    deep = {f"{number % 10}/{number % 77}/{number}": b"x" for number in range(10_000)}

    one, two = travel((flat, [], []), (deep, list(flat), []))

    assert len(one) == len(two) == 10_000
    assert one.manifest.keys() == flat.keys()


def test_rule_04_empty_folders_come_and_go() -> None:
    trees = travel(
        ({}, [], ["a/b", "c"]),
        ({"a/b/file": b"x"}, [], ["c"]),
        ({}, ["a/b/file"], ["a/b", "c/d"]),
        ({}, [], []),
    )

    assert [tree.directories for tree in trees] == [("a/b", "c"), ("c",), ("a/b", "c/d"), ()]
    assert trees[-1].snapshot_id == SnapshotTree.empty().snapshot_id
    assert len({tree.snapshot_id for tree in trees}) == 4

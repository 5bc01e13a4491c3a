"""Rule 5: a path that must not reach a working tree does not get through the parser."""

from __future__ import annotations

import struct

import msgpack
import pytest

from starfish_mpack_wire import (
    MPackFormatError,
    MPackReader,
    SnapshotTree,
    blob_id,
    build_mpack,
    parse_wire_mpack,
)
from starfish_mpack_wire._pack.layout import Section
from starfish_mpack_wire.testing.damage import assemble, group_of, sections_of

BAD = [
    "/etc/passwd",
    "..",
    "../up",
    "a/../b",
    "a/..",
    ".",
    "./a",
    "a/./b",
    "a/.",
    "a//b",
    "a/",
    "//",
    "a\\b",
    "..\\up",
    "C:\\x",
    "x" * 4097,
    "é" * 2049,
]
GOOD = ["...", "a..b", ".hidden", "a/.b", "C:", "-", " ", "x" * 4096, "é" * 2048, "a/" * 2047 + "b"]
BLOB = {"object_id": blob_id(b"x"), "content": b"x"}


def pack_with(paths: str, removed: str = "", directories: str = "") -> bytes:
    """A pack that another builder made: its records were checked by nobody."""
    snapshot = {
        "snapshot_id": blob_id(b"any"),
        "parent_snapshot_id": None,
        "upsert": {"a": BLOB["object_id"]},
        "remove": [],
        "directories": [],
    }
    sections = sections_of(build_mpack([], [snapshot], [BLOB]))
    numbers = struct.pack(">I", 0) * (paths.count("\0") + 1 if paths else 0)
    record = msgpack.packb([None, paths, b"", numbers, b"", removed, directories])
    return assemble({**sections, Section.SNAPSHOTS: group_of(record, 1)})


@pytest.mark.parametrize("path", BAD)
def test_rule_05_a_bad_path_is_refused_by_parser_builder_and_tree(path: str) -> None:
    upsert = {path: BLOB["object_id"]}
    record = {
        "snapshot_id": blob_id(b"any"),
        "parent_snapshot_id": None,
        "upsert": upsert,
        "remove": [],
        "directories": [],
    }

    for pack in (pack_with(path), pack_with("", path), pack_with("", "", path)):
        with pytest.raises(MPackFormatError, match="path"):
            parse_wire_mpack(pack)
        with pytest.raises(MPackFormatError, match="path"):
            list(MPackReader(pack).snapshots())
    with pytest.raises(MPackFormatError, match="path"):
        build_mpack([], [record], [BLOB])
    with pytest.raises(MPackFormatError, match="path"):
        SnapshotTree.empty().apply(upsert)
    with pytest.raises(MPackFormatError, match="path"):
        SnapshotTree.empty().apply({}, directories=[path])


@pytest.mark.parametrize("path", ["", "a\0b", "\udc80", 7])
def test_rule_05_what_a_pack_cannot_even_express_is_refused_by_the_tree(path) -> None:
    with pytest.raises(MPackFormatError):
        SnapshotTree.empty().apply({path: BLOB["object_id"]})


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path[:10])
def test_rule_05_an_odd_path_that_harms_nobody_passes(path: str) -> None:
    parsed = parse_wire_mpack(pack_with(path))

    assert list(parsed["snapshots"][0]["upsert"]) == [path]
    tree = SnapshotTree.empty().apply(parsed["snapshots"][0]["upsert"])
    assert list(tree.manifest) == [path]


@pytest.mark.parametrize("paths", ["b\0a", "a\0a"], ids=["out of order", "twice"])
def test_rule_05_paths_out_of_order_or_twice_are_refused(paths: str) -> None:
    for pack in (pack_with(paths), pack_with("", paths), pack_with("", "", paths)):
        with pytest.raises(MPackFormatError, match="out of order"):
            parse_wire_mpack(pack)


def test_rule_05_a_path_is_not_both_changed_and_removed() -> None:
    with pytest.raises(MPackFormatError, match="both"):
        parse_wire_mpack(pack_with("a", "a"))


def test_rule_05_a_file_below_a_file_is_refused() -> None:
    object_id = BLOB["object_id"]

    for change in ({"a": object_id, "a/b": object_id}, {"a/b": object_id, "a": object_id}):
        with pytest.raises(MPackFormatError, match="is a f"):
            SnapshotTree.empty().apply(change)

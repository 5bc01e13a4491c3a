"""Hypothesis strategies: histories, packs of them, and packs that were damaged.

Examples:
    >>> from hypothesis import find
    >>> len(find(histories(), lambda history: len(history["commits"]) == 2)["commits"])
    2
"""

from __future__ import annotations

from typing import Any, cast

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as error:
    message = (
        "starfish_mpack_wire.testing.strategies needs the extra testing: "
        'pip install --find-links dist "starfish-mpack-wire[testing]"'
    )
    raise ImportError(message) from error

from starfish_mpack_wire._model.object_ids import blob_id, commit_id
from starfish_mpack_wire._model.records import CommitRecord, PackContents, SnapshotRecord, TagRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._pack.layout import Section
from starfish_mpack_wire._pack.writer import build_mpack
from starfish_mpack_wire.testing.damage import (
    RECORD_SECTIONS,
    assemble,
    group_of,
    record_count,
    records_of,
    reseal,
    sections_of,
)

__all__ = ("contents", "damaged_packs", "histories", "object_ids", "packs", "paths")

_names = st.sampled_from(
    ["a", "b", "B", "ä", "a\u0308", "name with space", "x" * 40, "é.txt", "\U0001f600", "-", "..."]
)


def object_ids() -> st.SearchStrategy[str]:
    """Ids of nothing in particular."""
    return st.binary(max_size=4).map(blob_id)


def paths() -> st.SearchStrategy[str]:
    """Paths that a snapshot may hold, few enough to meet each other."""
    return st.lists(_names, min_size=1, max_size=3).map("/".join)


def contents() -> st.SearchStrategy[bytes]:
    """Bytes of blobs: small, compressible, and versions of each other."""
    lines = st.lists(st.sampled_from(["one line of text\n", "another\n", "x" * 50]), max_size=8)
    return st.one_of(st.binary(max_size=80), lines.map(lambda each: "".join(each).encode()))


_plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=8),
)
_unknown_values = st.recursive(
    _plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def _trees(draw: st.DrawFn, before: SnapshotTree, blobs: dict[str, bytes]) -> SnapshotTree:
    """A snapshot after another: drawn changes that fit in are made, the others are not."""
    tree = before
    for path in draw(st.lists(paths(), max_size=4)):
        change = draw(st.sampled_from(["write", "write", "remove", "directory"]))
        try:
            if change == "write":
                content = draw(contents())
                object_id = blob_id(content)
                above = {path.rsplit("/", cut)[0] for cut in range(1, path.count("/") + 1)}
                tree = tree.apply({path: object_id}, directories=set(tree.directories) - above)
                blobs[object_id] = content
            elif change == "remove":
                tree = tree.apply({}, [path])
            else:
                tree = tree.apply({}, directories={*tree.directories, path})
        except ValueError:
            continue
    return tree


def _difference(tree: SnapshotTree, parent: SnapshotTree | None) -> SnapshotRecord:
    before, after = parent.manifest if parent is not None else {}, tree.manifest
    return {
        "snapshot_id": tree.snapshot_id,
        "parent_snapshot_id": None if parent is None else parent.snapshot_id,
        "upsert": {path: each for path, each in after.items() if before.get(path) != each},
        "remove": sorted(before.keys() - after.keys()),
        "directories": list(tree.directories),
    }


@st.composite
def histories(draw: st.DrawFn, max_commits: int = 8) -> PackContents:
    """Whole histories: several roots, merges, empty folders, unknown keys, one blob twice, others nowhere."""
    blobs: dict[str, bytes] = {}
    trees: dict[str, SnapshotTree] = {}  # by commit
    commits: dict[str, CommitRecord] = {}
    snapshots: dict[str, SnapshotRecord] = {}
    for number in range(draw(st.integers(0, max_commits))):
        parents = (
            draw(st.lists(st.sampled_from(list(commits)), max_size=3, unique=True))
            if (commits)
            else []
        )
        before = trees[parents[0]] if parents else None
        tree = draw(_trees(before or SnapshotTree.empty(), blobs))
        if tree.snapshot_id not in snapshots:
            snapshots[tree.snapshot_id] = _difference(tree, before)
        record: dict[str, Any] = {
            "branch": draw(st.sampled_from(["main", "feature/ä"])),
            "snapshot_id": tree.snapshot_id,
            "parent_ids": parents,
            "message": draw(st.text(max_size=10)),
            "author": f"Author {number}",
            "committed_at": draw(
                st.sampled_from(["2026-01-31T12:00:00Z", "1970-01-01T00:00:00.5+05:30"])
            ),
        }
        if draw(st.booleans()):
            record["metadata"] = draw(
                st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3)
            )
        record |= draw(
            st.dictionaries(st.sampled_from(["signature", "x", ""]), _unknown_values, max_size=2)
        )
        record = {"commit_id": commit_id(record), **record}
        commits[record["commit_id"]] = cast("CommitRecord", record)
        trees[record["commit_id"]] = tree
    for content in draw(st.lists(contents(), max_size=3)):
        blobs.setdefault(blob_id(content), content)  # one that no snapshot names
    names = draw(st.lists(st.sampled_from(["v1", "v1.0", "a/b", "ü"]), unique=True, max_size=3))
    tags: list[TagRecord] = [
        {"name": name, "commit_id": draw(st.sampled_from([*commits, blob_id(b"elsewhere")]))}
        for name in names
    ]
    return {
        "commits": list(commits.values()),
        "snapshots": list(snapshots.values()),
        "blobs": [{"object_id": each, "content": content} for each, content in blobs.items()],
        "tags": tags,
    }


@st.composite
def packs(draw: st.DrawFn) -> bytes:
    """Good packs, of whole histories and of parts of them."""
    history = draw(histories())
    if draw(st.booleans()):
        for kind in ("commits", "snapshots", "blobs"):
            records = cast("list[object]", history[kind])
            if records:
                del records[draw(st.integers(0, len(records) - 1))]
    return build_mpack(**history)


def _damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Change some bytes: overwritten, doubled, taken out, moved."""
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        # Scattered: small integers come more often, and would all hit the first bytes.
        start = (draw(st.integers(0, 2**16)) + 1) * 40_503 % (len(damaged) + 1)
        length = draw(st.integers(0, 40))
        match draw(st.sampled_from(["set", "set", "set", "insert", "delete", "double", "cut"])):
            case "set":
                new = draw(st.binary(min_size=1, max_size=4))
                damaged[start : start + len(new)] = new[: len(damaged) - start]
            case "insert":
                damaged[start:start] = draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del damaged[start : start + length]
            case "double":
                damaged[start:start] = damaged[start : start + length]
            case _:
                del damaged[start:]
    return bytes(damaged)


@st.composite
def damaged_packs(draw: st.DrawFn) -> bytes:
    """Packs with damage anywhere, most of them with a seal that fits.

    Some are damaged as files, some inside a section with a table that fits, some inside the
    msgpack before it is compressed.
    """
    pack = draw(packs())
    match draw(st.sampled_from(["file", "sealed", "section", "records", "records"])):
        case "file":
            return _damaged(draw, pack)
        case "sealed":
            return reseal(_damaged(draw, pack))
        case "section":
            sections = sections_of(pack)
            section = draw(st.sampled_from([each for each in Section if sections[each]]))
            return assemble({**sections, section: _damaged(draw, sections[section])})
        case _:
            sections = sections_of(pack)
            section = draw(st.sampled_from(RECORD_SECTIONS))
            good = sections[section]
            records = _damaged(draw, records_of(good))
            count = draw(st.sampled_from([record_count(good)] * 5 + [0, 1, 7]))
            return assemble({**sections, section: group_of(records, count)})

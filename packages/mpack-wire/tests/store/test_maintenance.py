"""Repack and gc: garbage ages however often they run, a run costs what changed, nothing fails meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_mpack_wire import LocalStore, apply_mpack, blob_id, build_mpack
from starfish_mpack_wire._store.maintenance import packs_to_join
from starfish_mpack_wire.working_tree import WorkingTree
from starfish_protocol.testing import ManualClock

MINUTE_MS = 60_000


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[WorkingTree]:
    (tmp_path / "w").mkdir()
    with WorkingTree.create(tmp_path / "w") as tree:
        yield tree


def commit(tree: WorkingTree, text: str) -> str:
    (tree.root / "a").write_text(text)
    record = tree.commit(text, author="Ada")
    assert record is not None
    return record["commit_id"]


def age(store: LocalStore, by_ms: int) -> None:
    """Make every pack so much older."""
    for path in store.packs.folder.iterdir():
        came = path.stat().st_mtime_ns - by_ms * 1_000_000
        os.utime(path, ns=(came, came))


@pytest.mark.parametrize("also_repack", [False, True])
def test_garbage_is_freed_however_often_maintenance_runs(
    tree: WorkingTree, *, also_repack: bool
) -> None:
    commit(tree, "base")
    tree.checkout("junk", start=tree.head())
    junk = commit(tree, "junk" * 1000)
    tree.checkout("main")
    tree.store.move_branch("junk", None, expected=junk)

    for number in range(20):
        commit(tree, str(number))
        age(tree.store, MINUTE_MS)
        if also_repack:
            tree.store.repack(everything=number % 2 == 0)
        tree.store.gc(grace_ms=10 * MINUTE_MS)
        assert tree.store.has_commit(junk) is (number < 9), number

    assert not tree.store.verify().problems


def test_younger_garbage_and_what_it_needs_stay(tree: WorkingTree) -> None:
    first = commit(tree, "1")
    second = commit(tree, "2")
    tree.store.move_branch("main", first, expected=second)

    tree.store.gc(grace_ms=MINUTE_MS)

    assert tree.store.has_commit(second)
    tree.store.gc(grace_ms=0, clock=ManualClock(4_102_444_800_000))
    assert not tree.store.has_commit(second)
    assert not tree.store.verify().problems


def test_gc_leaves_packs_without_garbage_alone(tree: WorkingTree) -> None:
    for number in range(5):
        commit(tree, str(number))
    packs = tree.store.packs.ids()

    tree.store.gc(grace_ms=0, clock=ManualClock(4_102_444_800_000))

    assert tree.store.packs.ids() == packs


@given(sizes=st.lists(st.integers(1, 10**6), max_size=30))
def test_a_geometric_repack_leaves_each_pack_twice_the_smaller_ones(sizes: list[int]) -> None:
    ordered = sorted(sizes)

    count = packs_to_join(sizes)

    left = ordered[count:]
    smaller = sum(ordered[:count])
    for number, size in enumerate(left):
        assert number + count == 0 or size >= 2 * smaller
        smaller += size


def test_a_geometric_repack_writes_the_large_pack_once(tree: WorkingTree) -> None:
    (tree.root / "large").write_bytes(os.urandom(100_000))
    commit(tree, "0")
    (large,) = tree.store.packs.ids()
    for number in range(1, 40):
        commit(tree, str(number))
        tree.store.repack(everything=False)

    assert large in tree.store.packs.ids()
    assert len(tree.store.packs.ids()) < 8
    assert not tree.store.verify().problems


WRITER = """
import os, sys
from starfish_mpack_wire import LocalStore, apply_mpack, blob_id, build_mpack
for _ in range(60):
    data = os.urandom(200)
    with LocalStore(sys.argv[1]) as store:
        apply_mpack(store, build_mpack([], [], [{"object_id": blob_id(data), "content": data}]))
"""


def test_opening_and_writing_go_on_while_another_process_repacks(tmp_path: Path) -> None:
    LocalStore(tmp_path / "store").close()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "store"], stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    with LocalStore(tmp_path / "store") as store:
        while any(each.poll() is None for each in writers):
            store.repack()
        store.refresh()

        assert [each.communicate()[1] for each in writers] == ["", ""]
        assert store.catalogue.count("blob") == 120


def test_many_objects_are_read_group_by_group(tree: WorkingTree, monkeypatch) -> None:
    from starfish_mpack_wire._pack.record_groups import RecordGroups

    for number in range(30):
        commit(tree, str(number))
    tree.store.repack()
    rows = [row.commit_id for row in tree.store.log(tree.store.branches().values())]
    reads: list[int] = []
    read = RecordGroups.read
    monkeypatch.setattr(
        RecordGroups, "read", lambda self, group: reads.append(group) or read(self, group)
    )

    assert {each["commit_id"] for each in tree.store.commits(rows)} == set(rows)
    assert len(reads) <= 2


def test_a_store_can_hold_a_blob_alone(tmp_path: Path) -> None:
    with LocalStore(tmp_path / "store") as store:
        apply_mpack(store, build_mpack([], [], [{"object_id": blob_id(b"x"), "content": b"x"}]))
        store.repack()
        assert store.blob(blob_id(b"x")) == b"x"

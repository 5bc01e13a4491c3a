"""Large files in a working tree: committed, checked out, sent, put together and collected as chunks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from starfish_mpack_wire import LocalStore, MPackIntegrityError, apply_mpack, blob_id
from starfish_mpack_wire._store.packing import plan_for, write_pack
from starfish_mpack_wire.working_tree import WorkingTree

MIB = 2**20
FIRST = random.Random(5).randbytes(6 * MIB)
SECOND = FIRST[: 4 * MIB] + b"one line more\n" + FIRST[4 * MIB :]


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[WorkingTree]:
    with WorkingTree.create(tmp_path / "w") as opened:
        yield opened


def commit(tree: WorkingTree, content: bytes, name: str = "large") -> str:
    (tree.root / name).write_bytes(content)
    made = tree.commit("m", author="Ada")
    assert made is not None
    return made["commit_id"]


def test_a_commit_of_a_small_edit_stores_its_chunks(tree: WorkingTree) -> None:
    commit(tree, FIRST)
    before = sum(path.stat().st_size for path in (tree.root / ".mpack/packs").iterdir())
    commit(tree, SECOND)
    after = sum(path.stat().st_size for path in (tree.root / ".mpack/packs").iterdir())

    assert before > 6 * MIB
    assert after - before < MIB
    assert tree.store.blob(blob_id(SECOND)) == SECOND
    assert not tree.store.verify().problems


def test_a_checkout_writes_a_large_file_at_each_of_its_paths(tree: WorkingTree) -> None:
    (tree.root / "twice").write_bytes(FIRST)
    one = commit(tree, FIRST)
    commit(tree, SECOND)
    tree.checkout("old", start=one)

    assert (tree.root / "large").read_bytes() == FIRST == (tree.root / "twice").read_bytes()
    assert tree.status().clean


def test_what_is_sent_is_what_the_receiver_lacks(tree: WorkingTree, tmp_path: Path) -> None:
    one = commit(tree, FIRST)
    two = commit(tree, SECOND)

    with LocalStore(tmp_path / "other") as other:
        sizes = []
        for want, have in ((one, []), (two, [one])):
            pack = tmp_path / f"{len(have)}.mpack"
            write_pack(tree.store, plan_for(tree.store, [want], have), pack)
            sizes.append(pack.stat().st_size)
            apply_mpack(other, pack)
        assert other.blob(blob_id(SECOND)) == SECOND
        assert not other.verify().problems
    assert sizes[0] > 6 * MIB > MIB > sizes[1]


def test_a_pack_whose_chunks_do_not_make_the_blob_is_refused(
    tree: WorkingTree, tmp_path: Path
) -> None:
    from starfish_mpack_wire import build_mpack, parse_wire_mpack

    one = commit(tree, FIRST)
    two = commit(tree, SECOND)
    pack = tmp_path / "pack"
    write_pack(tree.store, plan_for(tree.store, [two], [one]), pack)
    contents = parse_wire_mpack(pack.read_bytes())
    contents["chunked"][0]["chunks"].reverse()

    with LocalStore(tmp_path / "other") as other:
        write_pack(tree.store, plan_for(tree.store, [one]), pack)
        apply_mpack(other, pack)
        with pytest.raises(MPackIntegrityError):
            apply_mpack(other, build_mpack(**contents))
        result = apply_mpack(other, build_mpack(**contents), strict=False)
        assert {each.kind for each in result.rejected} == {"blob", "snapshot", "commit"}
        assert not other.verify().problems


def test_repack_and_gc_keep_the_chunks_of_what_is_reachable_and_drop_the_others(
    tree: WorkingTree,
) -> None:
    one = commit(tree, FIRST)
    two = commit(tree, SECOND)
    three = commit(tree, bytes(reversed(FIRST)))
    tree.store.repack()
    assert tree.store.blob(blob_id(SECOND)) == SECOND
    assert not tree.store.verify().problems

    tree.store.move_branch("main", two, expected=three)
    report = tree.store.gc(grace_ms=-10_000)

    assert report.bytes_after < report.bytes_before - 5 * MIB
    assert tree.store.blob(blob_id(FIRST)) == FIRST
    assert tree.store.blob(blob_id(SECOND)) == SECOND
    assert not tree.store.verify().problems
    assert tree.store.has_commit(one)


def test_a_chunk_that_is_damaged_on_disk_is_named(tree: WorkingTree) -> None:
    commit(tree, FIRST)
    commit(tree, SECOND)
    (_, large) = sorted(
        (tree.root / ".mpack/packs").iterdir(), key=lambda path: path.stat().st_size
    )
    large.unlink()
    tree.store.reindex()

    problems = tree.store.verify().problems

    assert problems
    assert any(blob_id(SECOND) in each for each in problems)


def test_a_file_that_changes_while_it_is_cut_is_not_committed(tree: WorkingTree) -> None:
    from starfish_mpack_wire.working_tree import _folder_tree

    (tree.root / "large").write_bytes(FIRST)
    scan = _folder_tree.scan_folder

    def and_change(*arguments: object) -> object:
        found = scan(*arguments)  # type: ignore[arg-type]
        (tree.root / "large").write_bytes(SECOND)
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_folder_tree, "scan_folder", and_change)
        with pytest.raises(MPackIntegrityError, match="the file large"):
            tree.commit("m", author="Ada")
    assert tree.head() is None

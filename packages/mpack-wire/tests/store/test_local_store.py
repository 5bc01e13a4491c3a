"""`LocalStore`: refs by compare-and-swap, a catalogue that can be lost, one pack instead of many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from starfish_mpack_wire import (
    LocalStore,
    MPackFormatError,
    MPackReader,
    ObjectNotFoundError,
    RefConflictError,
    StoreError,
    blob_id,
)
from starfish_mpack_wire._store import catalogue
from starfish_mpack_wire.working_tree import WorkingTree


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[WorkingTree]:
    (tmp_path / "w").mkdir()
    with WorkingTree.create(tmp_path / "w") as tree:
        yield tree


def commit(tree: WorkingTree, **files: str) -> str:
    for name, text in files.items():
        (tree.root / name).write_text(text)
    record = tree.commit(f"with {sorted(files)}", author="Ada")
    assert record is not None
    return record["commit_id"]


def test_a_branch_moves_only_from_where_the_caller_saw_it(tree: WorkingTree) -> None:
    first, second = commit(tree, a="1"), commit(tree, a="2")

    with pytest.raises(RefConflictError) as caught:
        tree.store.move_branch("main", first, expected=None)

    assert (caught.value.expected, caught.value.actual) == (None, second)
    tree.store.move_branch("main", first, expected=second)
    assert tree.store.branches() == {"main": first}


def test_of_many_processes_that_move_one_branch_one_wins(tree: WorkingTree) -> None:
    base = commit(tree, a="0")
    tips = [commit(tree, a=str(n)) for n in range(1, 7)]
    tree.store.move_branch("race", base, expected=None)
    children = []
    for tip in tips:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with LocalStore(tree.store.path) as store:
                    store.move_branch("race", tip, expected=base)
                    status = 0
            except RefConflictError:
                status = 3
            finally:
                os._exit(status)
        children.append(child)

    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    assert sorted(statuses) == [0] + [3] * (len(tips) - 1)
    assert tree.store.branches()["race"] == tips[statuses.index(0)]


@pytest.mark.parametrize("name", ["../x", "", "a..b", "-f", "a\x1b[31m", "x.lock", "@{1}"])
def test_rule_06_names_that_no_branch_may_have_are_refused(tree: WorkingTree, name: str) -> None:
    at = commit(tree, a="1")

    for move in (tree.store.move_branch, tree.store.move_tag):
        with pytest.raises(MPackFormatError):
            move(name, at, expected=None)
    assert set(tree.store.state().refs) == {"heads/main"}


def test_a_branch_does_not_move_to_what_is_not_there(tree: WorkingTree) -> None:
    with pytest.raises(ObjectNotFoundError):
        tree.store.move_branch("main", "sha256:" + "0" * 64, expected=None)


@pytest.mark.parametrize("damage", ["lost", "garbage", "truncated"])
def test_a_catalogue_that_is_lost_or_damaged_is_made_again(tree: WorkingTree, damage: str) -> None:
    first, second = commit(tree, a="1"), commit(tree, a="2", b="3")
    tree.store.close()
    file = tree.store.path / "catalogue.sqlite"
    if damage == "lost":
        file.unlink()
    else:
        for beside in file.parent.glob("catalogue.sqlite-*"):
            beside.unlink()
        file.write_bytes(b"\0garbage" * 999 if damage == "garbage" else file.read_bytes()[:100])

    with LocalStore(tree.store.path) as store:
        assert [row.commit_id for row in store.log([second])] == [second, first]
        assert store.tree_of(second).manifest.keys() == {"a", "b"}
        assert not store.verify().problems


def test_packs_that_another_process_adds_are_seen(tree: WorkingTree) -> None:
    with LocalStore(tree.store.path) as other:
        at = commit(tree, a="1")

        assert other.has_commit(at)
        assert other.tree_of(at).manifest.keys() == {"a"}


def test_repack_leaves_one_pack_with_the_same_history(tree: WorkingTree) -> None:
    ids = [
        commit(tree, a=str(n), **{f"f{n}": "x"}) for n in range(80)
    ]  # beyond one chain of differences
    trees = [tree.store.tree_of(at).snapshot_id for at in ids]
    with LocalStore(tree.store.path) as reader:
        assert reader.commit(ids[0])

        report = tree.store.repack()

        assert (report.packs_before, report.packs_after) == (80, 1)
        assert report.bytes_after < report.bytes_before
        assert not tree.store.verify().problems
        assert [tree.store.tree_of(at).snapshot_id for at in ids] == trees
        assert reader.commit(ids[1])["commit_id"] == ids[1], "a store that was open goes on"
    assert tree.store.repack().packs_after == 1


def test_gc_drops_what_nothing_leads_to_after_its_grace(tree: WorkingTree) -> None:
    first = commit(tree, a="1")
    tree.store.move_branch("side", first, expected=None)
    lost = commit(tree, a="only here", b="and here")
    tree.store.move_branch("main", first, expected=lost)

    tree.store.gc(grace_ms=10**15)
    assert tree.store.has_commit(lost)
    tree.store.gc(grace_ms=0)

    assert not tree.store.has_commit(lost)
    assert tree.store.has_commit(first)
    assert not tree.store.verify().problems


def test_verify_names_what_is_damaged(tree: WorkingTree) -> None:
    commit(tree, a="some text " * 50)
    (pack,) = (tree.store.path / "packs").iterdir()
    data = bytearray(pack.read_bytes())
    data[40] ^= 1
    pack.write_bytes(data)

    with LocalStore(tree.store.path) as store:
        problems = store.verify().problems

    assert any("has the hash" in problem for problem in problems)


def test_verify_names_a_pack_that_is_gone(tree: WorkingTree) -> None:
    commit(tree, a="1")
    at = commit(tree, a="2")
    for pack in (tree.store.path / "packs").iterdir():
        if not MPackReader(pack).has_commit(at):
            pack.unlink()

    with LocalStore(tree.store.path) as store:
        assert any("is missing" in problem for problem in store.verify().problems)


def test_history_behind_a_hole_is_never_taken_for_what_nothing_leads_to(
    tree: WorkingTree,
) -> None:
    first, middle, _ = (commit(tree, a=str(n)) for n in range(3))
    for pack in (tree.store.path / "packs").iterdir():
        if MPackReader(pack).has_commit(middle):
            pack.unlink()

    with LocalStore(tree.store.path) as store:
        head = store.branches()["main"]
        for walk in (lambda: list(store.log([head])), lambda: store.gc(grace_ms=0)):
            with pytest.raises(ObjectNotFoundError, match=middle):
                walk()
        assert store.has_commit(first)
        with pytest.raises(ObjectNotFoundError):
            list(store.log(["sha256:" + "0" * 64]))


def test_a_folder_that_copying_left_out_because_it_was_empty_is_made_again(
    tree: WorkingTree,
) -> None:
    commit(tree, a="1")
    (tree.store.path / "incoming").rmdir()

    with WorkingTree(tree.root) as again:
        commit(again, a="2")


def test_a_folder_with_other_things_in_it_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("keep me")

    with pytest.raises(StoreError, match="not a store and not empty"):
        LocalStore(tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "keep me"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}', '{"version": 1}'])
def test_a_damaged_state_is_an_error_and_not_an_empty_history(tree: WorkingTree, text: str) -> None:
    commit(tree, a="1")
    (tree.store.path / "state.json").write_text(text)

    with pytest.raises(StoreError, match="is damaged"):
        tree.store.state()


def test_a_held_lock_is_an_error_after_a_while(tree: WorkingTree) -> None:
    import fcntl

    store = LocalStore(tree.store.path, lock_timeout_s=0.05)
    with store, (store.path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(StoreError, match="another process"):
            store.switch_branch("other")


def test_a_commit_that_was_killed_before_the_branch_moved_can_be_made_again(
    tree: WorkingTree,
) -> None:
    commit(tree, a="1")
    at = commit(tree, a="2")
    tree.store.move_branch("main", tree.store.commit(at)["parent_ids"][0], expected=at)

    record = tree.commit("again", author="Ada")

    assert record is not None
    assert not tree.store.verify().problems


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_the_blobs_of_a_pack_are_listed_whatever_the_size_of_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(catalogue, "BLOBS_PER_INSERT", 3)
    blob_ids = sorted(blob_id(b"%d" % number) for number in range(count))
    rows = catalogue.Catalogue(tmp_path / "catalogue.sqlite")

    for pack in (blob_id(b"first"), blob_id(b"second")):
        with rows.transaction():
            rows.add_pack(pack, commits=(), snapshots=(), blob_ids=blob_ids)

    assert rows.ids("blob") == blob_ids
    assert {rows.pack_of("blob", each) for each in blob_ids} <= {blob_id(b"first")}
    rows.close()

"""Fetch, push and clone against a real server on loopback."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx", reason="needs the extra client")

from starfish_mpack_wire import (
    LocalStore,
    NonFastForwardError,
    ObjectNotFoundError,
    RemoteNotFoundError,
    RemoteRefusedError,
)
from starfish_mpack_wire.client import Progress, WireClient
from starfish_mpack_wire.working_tree import WorkingTree

pytestmark = pytest.mark.network

KILLS = int(os.environ.get("STARFISH_KILLS", "6"))


def commit(tree: WorkingTree, **files: str) -> str:
    for name, text in files.items():
        (tree.root / name).write_text(text)
    record = tree.commit(f"with {sorted(files)}", author="Ada")
    assert record is not None
    return record["commit_id"]


def test_what_is_pushed_is_what_is_cloned(
    live_server: Any, tree: WorkingTree, tmp_path: Path
) -> None:
    url, token = live_server.new_repo()
    heads = [commit(tree, a=str(n), b="same") for n in range(4)]
    steps: list[Progress] = []

    with WireClient(url, token=token) as client:
        pushed = client.push(tree.store, "main", on_progress=steps.append)
    with WireClient(url) as client, LocalStore(tmp_path / "copy") as copy:
        cloned = client.clone(copy, on_progress=steps.append)

        assert (pushed.commits_written, pushed.previous, pushed.head) == (4, None, heads[-1])
        assert cloned.commits_written == 4
        assert copy.branches() == {"main": heads[-1]}
        assert copy.remote_branches("origin") == {"main": heads[-1]}
        assert [row.commit_id for row in copy.log([heads[-1]])] == heads[::-1]
        assert copy.tree_of(heads[0]).manifest == tree.store.tree_of(heads[0]).manifest
        assert not copy.verify().problems
    assert {step.stage for step in steps} == {"build", "upload", "download", "apply"}


def test_only_what_is_new_travels(live_server: Any, tree: WorkingTree, tmp_path: Path) -> None:
    url, token = live_server.new_repo()
    for number in range(30):
        commit(tree, **{f"f{number}": "x" * 400})
    with WireClient(url, token=token) as client, LocalStore(tmp_path / "copy") as copy:
        client.push(tree.store, "main")
        client.clone(copy)
        commit(tree, new="1")

        pushed = client.push(tree.store, "main")
        fetched = client.fetch(copy)
        again = client.fetch(copy)
        nothing = client.push(tree.store, "main")

        assert (pushed.commits_written, pushed.blobs_written) == (1, 1)
        assert (fetched.commits_written, fetched.blobs_written) == (1, 1)
        assert fetched.size_bytes < 2_000
        assert (again.commits_written, again.size_bytes) == (0, 0)
        assert (nothing.commits_written, nothing.size_bytes) == (0, 0)


def test_two_people_take_turns_and_the_late_one_is_told(
    live_server: Any, tree: WorkingTree, tmp_path: Path
) -> None:
    url, token = live_server.new_repo()
    commit(tree, a="1")
    with WireClient(url, token=token) as client:
        client.push(tree.store, "main")
        (tmp_path / "ben").mkdir()
        with WorkingTree.create(tmp_path / "ben") as ben:
            client.clone(ben.store)
            ben.write_head()
            theirs = commit(ben, b="ben's")
            client.push(ben.store, "main")
            mine = commit(tree, a="ada's")

            with pytest.raises(NonFastForwardError):
                client.push(tree.store, "main")
            client.fetch(tree.store)
            with pytest.raises(NonFastForwardError):
                tree.fast_forward(theirs)
            with pytest.raises(NonFastForwardError):
                client.push(tree.store, "main")

            assert client.push(tree.store, "main", force=True).previous == theirs
            assert client.refs().branches == {"main": mine}


def test_branches_and_tags_travel_and_one_that_is_gone_is_forgotten(
    live_server: Any, tree: WorkingTree, tmp_path: Path
) -> None:
    url, token = live_server.new_repo()
    first = commit(tree, a="1")
    tree.checkout("feature/x", start=first)
    second = commit(tree, a="2")
    tree.store.move_tag("v1", first)
    with WireClient(url, token=token) as client, LocalStore(tmp_path / "copy") as copy:
        client.push(tree.store, "main", tags=["v1"])
        client.push(tree.store, "feature/x")
        client.clone(copy)

        assert copy.remote_branches("origin") == {"feature/x": second, "main": first}
        assert copy.tags() == {"v1": first}
        only = client.fetch(copy, branches=["main"])
        assert only.commits_written == 0
        with pytest.raises(RemoteNotFoundError):
            client.fetch(copy, branches=["absent"])


def test_a_shallow_clone_can_be_deepened(
    live_server: Any, tree: WorkingTree, tmp_path: Path
) -> None:
    url, token = live_server.new_repo()
    heads = [commit(tree, a=str(n)) for n in range(6)]
    with WireClient(url, token=token) as client, LocalStore(tmp_path / "copy") as copy:
        client.push(tree.store, "main")

        client.clone(copy, depth=2)
        assert [row.commit_id for row in copy.log([heads[-1]])] == heads[:-3:-1]
        assert copy.state().shallow == {heads[-2]}
        assert not copy.verify().problems
        newer = commit(tree, a="newer")
        client.push(tree.store, "main")
        assert client.fetch(copy).commits_written == 1
        assert [row.commit_id for row in copy.log([newer])] == [newer, heads[-1], heads[-2]]
        client.fetch(copy, depth=100)

        assert copy.state().shallow == frozenset()
        assert [row.commit_id for row in copy.log([newer])] == [newer, *heads[::-1]]
        assert not copy.verify().problems


def test_a_partial_clone_gets_blobs_when_it_needs_them(
    live_server: Any, tree: WorkingTree, tmp_path: Path
) -> None:
    url, token = live_server.new_repo()
    commit(tree, a="old")
    head = commit(tree, a="new", b="b")
    (tmp_path / "copy").mkdir()
    with WireClient(url, token=token) as client, WorkingTree.create(tmp_path / "copy") as copy:
        client.push(tree.store, "main")

        result = client.clone(copy.store, blob_filter="blob:none")
        assert (result.commits_written, result.blobs_written) == (2, 0)
        with pytest.raises(ObjectNotFoundError):
            copy.write_head()
        copy.write_head(fetch_blobs=lambda ids: client.fetch_blobs(copy.store, ids))

        assert (copy.root / "a").read_text() == "new"
        assert copy.store.catalogue.count("blob") == 2, "not the blob of the older commit"
        commit(copy, a="newest")
        assert client.push(copy.store, "main").previous == head


def test_without_a_token_nothing_can_be_pushed_and_a_private_repo_is_not_there(
    live_server: Any, tree: WorkingTree
) -> None:
    url, token = live_server.new_repo(private=True)
    commit(tree, a="1")

    with WireClient(url) as client, pytest.raises(RemoteNotFoundError):
        client.push(tree.store, "main")
    public, _ = live_server.new_repo()
    for address in (url, public):
        with (
            WireClient(address, token="mpt_" + "x" * 43) as client,
            pytest.raises(RemoteRefusedError) as caught,
        ):
            client.push(tree.store, "main")
        assert caught.value.status == 401
    with WireClient(public, token=token) as client, pytest.raises(RemoteRefusedError) as caught:
        client.push(tree.store, "main")
    assert caught.value.status == 403


def test_an_empty_repo_can_be_cloned_and_pushed_to(live_server: Any, tmp_path: Path) -> None:
    url, token = live_server.new_repo()
    (tmp_path / "copy").mkdir()
    with WireClient(url, token=token) as client, WorkingTree.create(tmp_path / "copy") as copy:
        assert client.clone(copy.store).commits_written == 0
        copy.write_head()
        head = commit(copy, a="1")

        assert client.push(copy.store, "main").head == head


def in_a_child(work: Callable[[], None]) -> int:
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(0)
    return process


def test_kill_9_during_push_leaves_both_sides_consistent_and_the_next_run_completes(
    live_server: Any, tree: WorkingTree, tmp_path: Path
) -> None:
    url, token = live_server.new_repo()
    chance = random.Random(3)
    for round_number in range(KILLS):
        files = {f"r{round_number}-{n}": chance.randbytes(300).hex() for n in range(150)}
        head = commit(tree, **files)

        def push() -> None:
            with LocalStore(tree.store.path) as store, WireClient(url, token=token) as client:
                client.push(store, "main")

        child = in_a_child(push)
        time.sleep(chance.uniform(0.0, 0.4))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

        with WireClient(url, token=token) as client:
            there = client.refs().branches.get("main")
            assert there is None or tree.store.has_commit(there)
            assert client.push(tree.store, "main").head == head
            assert client.refs().branches == {"main": head}
    assert not tree.store.verify().problems
    with WireClient(url) as client, LocalStore(tmp_path / "copy") as copy:
        client.clone(copy)
        assert not copy.verify().problems
        assert copy.catalogue.count("blob") == tree.store.catalogue.count("blob")

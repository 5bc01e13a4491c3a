"""`apply_mpack`: all of a pack becomes part of the store, or nothing of it does."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from starfish_mpack_wire import (
    IncompleteHistoryError,
    LocalStore,
    MPackError,
    MPackFormatError,
    MPackIntegrityError,
    StoreError,
    apply_mpack,
    blob_id,
    build_mpack,
    commit_id,
    parse_wire_mpack,
    snapshot_id,
)
from starfish_mpack_wire.testing.strategies import damaged_packs, histories


def commit_of(files: dict[str, bytes], *parents: str, message: str = "m") -> dict[str, Any]:
    """The contents of a pack with one commit, its whole snapshot and all blobs."""
    manifest = {path: blob_id(content) for path, content in files.items()}
    snapshot = snapshot_id(manifest)
    record: dict[str, Any] = {
        "branch": "main",
        "snapshot_id": snapshot,
        "parent_ids": list(parents),
        "message": message,
        "author": "Ada",
        "committed_at": "2026-01-31T12:00:00+00:00",
    }
    record["commit_id"] = commit_id(record)
    return {
        "commits": [record],
        "snapshots": [
            {
                "snapshot_id": snapshot,
                "parent_snapshot_id": None,
                "upsert": manifest,
                "remove": [],
                "directories": [],
            }
        ],
        "blobs": [{"object_id": blob_id(each), "content": each} for each in set(files.values())],
    }


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@given(history=histories())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_built_is_what_is_read_after_applying(
    history: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pack = build_mpack(**history)

    with LocalStore(tmp_path_factory.mktemp("store")) as store:
        result = apply_mpack(store, pack, mpack_id=blob_id(pack))

        assert result.commits_written == len(history["commits"])
        assert not store.verify().problems
        for commit in history["commits"]:
            assert store.commit(commit["commit_id"]) == commit
        for blob in history["blobs"]:
            assert store.blob(blob["object_id"]) == blob["content"]
        for snapshot in history["snapshots"]:
            tree = store.snapshot_tree(snapshot["snapshot_id"])
            assert snapshot_id(tree.manifest, tree.directories) == snapshot["snapshot_id"]


def test_the_pack_is_kept_as_it_came_in_one_file_and_no_ref_moves(tmp_path: Path) -> None:
    pack = build_mpack(**commit_of({"a": b"1", "b": b"2"}))

    with LocalStore(tmp_path) as store:
        apply_mpack(store, pack)

        kept = list((tmp_path / "packs").iterdir())
        assert [path.read_bytes() for path in kept] == [pack]
        assert store.state().refs == {}


def test_applying_twice_changes_nothing(tmp_path: Path) -> None:
    pack = build_mpack(**commit_of({"a": b"1"}))

    with LocalStore(tmp_path) as store:
        apply_mpack(store, pack)
        before = everything_in(tmp_path)
        again = apply_mpack(store, pack)

        assert (again.commits_written, again.snapshots_written, again.blobs_written) == (0, 0, 0)
        assert everything_in(tmp_path) == before


def test_rule_01_the_hash_is_compared_before_the_pack_is_parsed(tmp_path: Path) -> None:
    pack = build_mpack(**commit_of({"a": b"1"}))

    with LocalStore(tmp_path) as store:
        with pytest.raises(MPackIntegrityError, match="the pack is"):
            apply_mpack(store, b"no pack at all" * 100, mpack_id=blob_id(pack))
        with pytest.raises(MPackIntegrityError, match="the pack is"):
            apply_mpack(store, pack, mpack_id="sha256:" + "0" * 64)
        assert store.packs.ids() == set()


def test_rule_01_ids_of_snapshots_are_computed_again(tmp_path: Path) -> None:
    contents = commit_of({"a": b"1"})
    forged = "sha256:" + "ab" * 32
    contents["snapshots"][0]["snapshot_id"] = forged
    record = {**contents["commits"][0], "snapshot_id": forged}
    contents["commits"] = [{**record, "commit_id": commit_id(record)}]

    with LocalStore(tmp_path) as store:
        with pytest.raises(MPackIntegrityError, match="the snapshot is"):
            apply_mpack(store, build_mpack(**contents))
        assert not store.has_commit(contents["commits"][0]["commit_id"])


@given(pack=damaged_packs())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_pack_is_refused_with_an_error_of_ours_and_leaves_nothing(
    pack: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    with LocalStore(folder) as store:
        try:
            apply_mpack(store, pack)
        except MPackError:
            assert store.packs.ids() == set()
        else:  # the damage left a legal pack
            parse_wire_mpack(pack)
            assert not store.verify().problems
        assert list((folder / "incoming").iterdir()) == []


@pytest.mark.parametrize("part", ["snapshots", "blobs", "parents"])
def test_what_a_record_names_must_be_in_the_pack_or_in_the_store(tmp_path: Path, part: str) -> None:
    whole = commit_of({"a": b"1", "b": b"2"})
    lacking = dict(whole)
    if part == "parents":
        lacking = commit_of({"a": b"1"}, "sha256:" + "1" * 64)
    else:
        lacking[part] = []

    with LocalStore(tmp_path) as store:
        with pytest.raises(IncompleteHistoryError):
            apply_mpack(store, build_mpack(**lacking))
        assert store.packs.ids() == set()
        if part != "parents":
            apply_mpack(store, build_mpack([], whole["snapshots"], whole["blobs"]))
            assert apply_mpack(store, build_mpack(**lacking)).commits_written == 1


def test_without_strict_the_good_records_are_taken_and_the_bad_ones_reported(
    tmp_path: Path,
) -> None:
    good, orphan = commit_of({"a": b"1"}), commit_of({"a": b"2"}, "sha256:" + "1" * 64)
    child = commit_of({"a": b"3"}, orphan["commits"][0]["commit_id"])
    pack = build_mpack(
        *([*good[part], *orphan[part], *child[part]] for part in ("commits", "snapshots", "blobs"))
    )

    with LocalStore(tmp_path) as store:
        result = apply_mpack(store, pack, strict=False)

        rejected = {each.object_id for each in result.rejected}
        assert rejected == {each["commits"][0]["commit_id"] for each in (orphan, child)}
        assert result.commits_written == 1
        assert store.has_commit(good["commits"][0]["commit_id"])
        assert not any(store.has_commit(each) for each in rejected)
        assert not store.verify().problems


def test_a_shallow_commit_may_lack_its_parents_and_no_other(tmp_path: Path) -> None:
    from dataclasses import replace

    first = commit_of({"a": b"1"}, "sha256:" + "1" * 64)
    second = commit_of({"a": b"1"}, "sha256:" + "1" * 64, message="another")
    with LocalStore(tmp_path) as store:
        boundary = frozenset({first["commits"][0]["commit_id"]})
        store.change_state(lambda state: replace(state, shallow=boundary))

        assert apply_mpack(store, build_mpack(**first)).commits_written == 1
        with pytest.raises(IncompleteHistoryError):
            apply_mpack(store, build_mpack(**second))


def test_a_file_is_applied_like_its_bytes_and_stays_where_it_was(tmp_path: Path) -> None:
    pack = build_mpack(**commit_of({"a": b"1"}))
    file = tmp_path / "some.mpack"
    file.write_bytes(pack)

    with LocalStore(tmp_path / "store") as store:
        assert apply_mpack(store, str(file)).mpack_id == blob_id(pack)
        assert store.packs.ids() == {blob_id(pack)}
    assert file.read_bytes() == pack


def test_bytes_that_are_no_pack_are_refused(tmp_path: Path) -> None:
    body = b"\x89MPACK\r\n\x1a\n" + b"x" * 500
    with LocalStore(tmp_path) as store:
        for data in (b"", b"x", b"x" * 31, body, body + hashlib.sha256(body).digest()):
            with pytest.raises((MPackFormatError, MPackIntegrityError)):
                apply_mpack(store, data)
        assert list((tmp_path / "incoming").iterdir()) == []


def in_a_child(work: Callable[[], None]) -> int:
    """The id of a process that does this and nothing else."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return process


STEPS = {"open", "write", "sendfile", "fsync", "rename", "replace", "unlink", "flock"} | {
    "execute",
    "executemany",
}
"""What changes a file, a lock or the catalogue, by the name of the function of Python."""


def kill_at(step: int) -> None:
    """Kill this process before the so many-th of these steps."""
    steps = itertools.count()

    def profile(_frame: object, event: str, function: Any) -> None:
        taken = event == "c_call" and function.__name__ in STEPS
        if taken and not isinstance(function.__self__, str) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)


def test_kill_9_at_any_step_of_apply_leaves_a_store_in_which_the_next_run_completes(
    tmp_path: Path,
) -> None:
    files = {f"d{n % 7}/f{n}": random.Random(n).randbytes(600) for n in range(60)}
    pack = build_mpack(**commit_of(files))
    held: list[bool] = []
    for step in itertools.count():
        folder = tmp_path / f"store{step}"
        LocalStore(folder).close()

        def apply(folder: Path = folder, step: int = step) -> None:
            kill_at(step)
            with LocalStore(folder) as store:
                apply_mpack(store, pack)

        _, status = os.waitpid(in_a_child(apply), 0)

        with LocalStore(folder) as store:
            held.append(bool(store.packs.ids()))
            assert store.packs.ids() <= {blob_id(pack)}
            assert not store.verify().problems
            apply_mpack(store, pack)
            assert not store.verify().problems
            assert store.catalogue.count("blob") == len(files)
            assert list((folder / "incoming").iterdir()) == []
        if status == 0:
            break
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert held == sorted(held), "once it is there, it stays"
    assert held.count(False) > 10, "there are steps before the rename"
    assert held.count(True) > 5, "and after it"


def test_a_full_disk_is_a_store_error_and_leaves_nothing(tmp_path: Path) -> None:
    files = {f"f{n}": random.Random(n).randbytes(2000) for n in range(200)}
    pack = build_mpack(**commit_of(files))
    LocalStore(tmp_path / "store").close()

    def apply() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with LocalStore(tmp_path / "store") as store:
            try:
                apply_mpack(store, pack)
            except StoreError:
                os._exit(7)

    _, status = os.waitpid(in_a_child(apply), 0)

    assert os.waitstatus_to_exitcode(status) == 7
    with LocalStore(tmp_path / "store") as store:
        assert store.packs.ids() == set()
        assert list((tmp_path / "store" / "incoming").iterdir()) == []
        assert apply_mpack(store, pack).blobs_written == 200


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_processes_that_apply_at_once_all_succeed(tmp_path: Path) -> None:
    packs = [build_mpack(**commit_of({"a": bytes([n])}, message=str(n))) for n in range(4)]
    folder = tmp_path / "store"
    LocalStore(folder).close()

    def apply_all() -> None:
        with LocalStore(folder) as store:
            for pack in packs:
                apply_mpack(store, pack)

    children = [in_a_child(apply_all) for _ in range(4)]

    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    with LocalStore(folder) as store:
        assert store.catalogue.count("commit") == 4
        assert not store.verify().problems

"""Read by the type checker, never run: the store, the client and working trees as a user sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import assert_type

from starfish_mpack_wire import ApplyResult, LocalStore, RejectedRecord, WireClient, apply_mpack
from starfish_mpack_wire._model.records import CommitRecord
from starfish_mpack_wire._model.snapshot_tree import SnapshotTree
from starfish_mpack_wire._store import RepackReport, StoreState, VerifyReport
from starfish_mpack_wire._store.catalogue import CommitRow
from starfish_mpack_wire.bundle import BundleInfo, create_bundle, unbundle, verify_bundle
from starfish_mpack_wire.client import FetchResult, Progress, PushResult, RemoteRefs, RetryPolicy
from starfish_mpack_wire.git import ExportResult, ImportResult, export_git, import_git
from starfish_mpack_wire.working_tree import TreeStatus, WorkingTree


def stores(store: LocalStore) -> None:
    result = apply_mpack(store, b"", strict=False, mpack_id="sha256:")
    assert_type(result, ApplyResult)
    assert_type(result.rejected, tuple[RejectedRecord, ...])
    assert_type(apply_mpack(store, Path("a.mpack")), ApplyResult)
    assert_type(store.state(), StoreState)
    assert_type(store.state().refs, Mapping[str, str])
    assert_type(store.commit(""), CommitRecord)
    assert_type(store.blob(""), bytes)
    assert_type(store.blobs([""]), Iterator[tuple[str, Iterable[bytes]]])
    assert_type(store.snapshot_tree(""), SnapshotTree)
    assert_type(store.log([""]), Iterator[CommitRow])
    assert_type(store.verify(), VerifyReport)
    assert_type(store.repack(), RepackReport)
    assert_type(store.gc(grace_ms=0), RepackReport)
    store.move_branch("main", None, expected="")
    with store as opened:
        assert_type(opened, LocalStore)


def clients(store: LocalStore) -> None:
    def show(progress: Progress) -> None:
        assert_type(progress.done, int)

    with WireClient("https://host/o/r", token="t", retries=RetryPolicy(attempts=1)) as client:
        assert_type(client, WireClient)
        assert_type(client.refs(), RemoteRefs)
        assert_type(client.fetch(store, depth=1, on_progress=show), FetchResult)
        assert_type(client.clone(store, blob_filter="blob:none"), FetchResult)
        assert_type(client.push(store, "main", force=True), PushResult)
        assert_type(client.fetch_blobs(store, [""]), int)


def trees(tree: WorkingTree) -> None:
    assert_type(WorkingTree.create(Path()), WorkingTree)
    assert_type(WorkingTree.find(Path()), WorkingTree)
    assert_type(tree.store, LocalStore)
    assert_type(tree.status(), TreeStatus)
    assert_type(tree.commit("m", author="a"), CommitRecord | None)
    assert_type(tree.fast_forward(""), bool)


def elsewhere(store: LocalStore) -> None:
    assert_type(create_bundle(store, "a.mpack", have=[""]), BundleInfo)
    assert_type(verify_bundle(store, "a.mpack"), BundleInfo)
    assert_type(unbundle(store, "a.mpack"), ApplyResult)
    assert_type(import_git(store, "repo"), ImportResult)
    assert_type(export_git(store, Path("repo"), force=True), ExportResult)

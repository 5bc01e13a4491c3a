"""Pushes of large packs: in parts, of which those that came are not sent again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx", reason="needs the extra client")

from starfish_mpack_wire import Limits, LocalStore, RemoteUnavailableError, WireClient
from starfish_mpack_wire.client import RetryPolicy, _upload
from starfish_mpack_wire.working_tree import WorkingTree

PART = 256 * 1024


def tree_of(root: Path) -> None:
    with WorkingTree.create(root) as tree:
        (root / "large").write_bytes(random.Random(9).randbytes(3_000_000))
        assert tree.commit("m", author="Ada") is not None


def test_an_interrupted_push_goes_on_with_the_parts_that_are_missing(
    live_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, token = live_server.new_repo()
    tree_of(tmp_path / "w")
    sent: list[int] = []
    breaks_after = 5
    put = _upload._put

    def counted(transport: Any, where: str, pack: Path, place: Any, progress: Any) -> None:
        if len(sent) == breaks_after:
            raise KeyboardInterrupt
        put(transport, where, pack, place, progress)
        sent.append(place[1])

    monkeypatch.setattr(_upload, "_put", counted)
    with LocalStore(tmp_path / "w/.mpack", limits=Limits(upload_part_bytes=PART)) as store:
        with WireClient(url, token=token) as client, pytest.raises(KeyboardInterrupt):
            client.push(store, "main")
        breaks_after = -1
        first = sum(sent)
        with WireClient(url, token=token) as client:
            result = client.push(store, "main")

    assert first == 5 * PART
    assert sum(sent) == result.size_bytes
    with LocalStore(tmp_path / "other") as other, WireClient(url) as client:
        client.fetch(other)
        assert other.remote_branches("origin")["main"] == result.head


def test_addresses_that_end_during_a_long_upload_are_asked_for_again(
    live_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, token = live_server.new_repo()
    tree_of(tmp_path / "w")
    calls = 0
    put = _upload._put

    def ending(transport: Any, where: str, *rest: Any) -> None:
        nonlocal calls
        calls += 1
        put(transport, where.replace("expires=", "expires=1") if calls % 4 == 0 else where, *rest)

    monkeypatch.setattr(_upload, "_put", ending)
    with (
        LocalStore(tmp_path / "w/.mpack", limits=Limits(upload_part_bytes=PART)) as store,
        WireClient(url, token=token) as client,
    ):
        assert client.push(store, "main").commits_written == 1
    assert calls > 12


def test_an_upload_that_never_gets_on_ends(
    live_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, token = live_server.new_repo()
    tree_of(tmp_path / "w")
    from starfish_mpack_wire import RemoteNotFoundError

    put = _upload._put
    monkeypatch.setattr(
        _upload,
        "_put",
        lambda transport, where, *rest: put(transport, where.replace("=", "=0"), *rest),
    )
    with (
        LocalStore(tmp_path / "w/.mpack", limits=Limits(upload_part_bytes=PART)) as store,
        WireClient(url, token=token, retries=RetryPolicy(attempts=2)) as client,
        pytest.raises((RemoteNotFoundError, RemoteUnavailableError)),
    ):
        client.push(store, "main")

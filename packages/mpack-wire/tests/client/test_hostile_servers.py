"""Rule 9 and its neighbours: a server that lies leaves nothing behind in a client's store."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx", reason="needs the extra client")

from starfish_mpack_wire import (
    LocalStore,
    MPackError,
    MPackLimitError,
    RemoteNotFoundError,
    RemoteProtocolError,
    RemoteRefusedError,
    RemoteUnavailableError,
    WireError,
    blob_id,
    build_mpack,
)
from starfish_mpack_wire._messages import encode_message
from starfish_mpack_wire._store.packing import plan_for, write_pack
from starfish_mpack_wire.client import RetryPolicy, WireClient
from starfish_mpack_wire.working_tree import WorkingTree

pytestmark = pytest.mark.network


def http(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    head = {"Content-Length": str(len(body)), "Connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items() if value)
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def message(content: dict[str, Any], status: str = "200 OK", **headers: str) -> bytes:
    return http(encode_message(content), status, Content_Type="application/x-msgpack", **headers)


class Peer:
    """A history of one branch, served by hand."""

    def __init__(self, server: Any, tree: WorkingTree, folder: Path) -> None:
        for number in range(3):
            (tree.root / "a").write_bytes(random.Random(number).randbytes(3000))
            record = tree.commit("m", author="Ada")
            assert record is not None
            self.head = record["commit_id"]
        file = folder / "peer.mpack"
        write_pack(tree.store, plan_for(tree.store, [self.head]), file)
        self.pack = file.read_bytes()
        self.server = server
        self.branches = {"main": self.head}
        self.offer: dict[str, Any] = {
            "mpack_id": blob_id(self.pack),
            "mpack_url": f"{server.url}/storage",
            "commit_count": 3,
            "snapshot_count": 3,
            "blob_count": 3,
            "size_bytes": len(self.pack),
            "expires_at": 2**50,
        }
        server.answers = {
            b"GET /o/r/refs ": lambda head: message(
                {"default_branch": "main", "branches": self.branches, "tags": {}}
            ),
            b"POST /o/r/fetch ": lambda head: message(self.offer),
            b"GET /storage ": lambda head: http(self.pack),
        }


@pytest.fixture
def peer(raw_server: Any, tree: WorkingTree, tmp_path: Path) -> Peer:
    return Peer(raw_server, tree, tmp_path)


def clone(peer: Peer, store: LocalStore, retries: RetryPolicy, **options: Any) -> None:
    with WireClient(f"{peer.server.url}/o/r", token="secret", retries=retries, **options) as client:
        client.clone(store)


def assert_nothing_is_left(store: LocalStore) -> None:
    assert store.state().refs == {}
    assert store.packs.ids() == set()
    assert list(store.incoming.folder.iterdir()) == []


def test_an_honest_peer_is_cloned(peer: Peer, tmp_path: Path, impatient: RetryPolicy) -> None:
    with LocalStore(tmp_path / "copy") as store:
        clone(peer, store, impatient)

        assert store.branches() == {"main": peer.head}
        assert not store.verify().problems


def wrong_bytes(peer: Peer) -> bytes:
    return http(bytes(len(peer.pack)))


def flipped_byte(peer: Peer) -> bytes:
    return http(peer.pack[:100] + bytes([peer.pack[100] ^ 1]) + peer.pack[101:])


def truncated(peer: Peer) -> bytes:
    return http(peer.pack[:-10], Content_Length=str(len(peer.pack)))


def truncated_and_content(peer: Peer) -> bytes:
    return http(peer.pack[:-10])


def longer(peer: Peer) -> bytes:
    return http(peer.pack + b"more")


def longer_without_a_length(peer: Peer) -> bytes:
    return http(peer.pack + b"more", Content_Length="")


def endless_chunks(peer: Peer) -> bytes:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    return http(chunk * 40, Content_Length="", Transfer_Encoding="chunked")


def a_login_page(peer: Peer) -> bytes:
    return http(b"<html>Please log in</html>", Content_Type="text/html")


def compressed(peer: Peer) -> bytes:
    return http(gzip.compress(peer.pack), Content_Encoding="gzip")


def a_redirect(peer: Peer) -> bytes:
    return http(b"", "302 Found", Location=f"http://127.0.0.2:{peer.server.port}/storage")


def another_legal_pack(peer: Peer) -> bytes:
    return http(build_mpack([], [], [{"object_id": blob_id(b"x"), "content": b"x"}]))


def no_http(peer: Peer) -> bytes:
    return b"\x00\xff" * 500


@pytest.mark.parametrize(
    "lie",
    [
        wrong_bytes,
        flipped_byte,
        truncated_and_content,
        longer,
        longer_without_a_length,
        endless_chunks,
        a_login_page,
        compressed,
        a_redirect,
        another_legal_pack,
        no_http,
    ],
)
def test_rule_09_a_download_that_is_not_what_was_promised_leaves_nothing_behind(
    peer: Peer, tmp_path: Path, impatient: RetryPolicy, lie: Callable[[Peer], bytes]
) -> None:
    peer.server.answers[b"GET /storage "] = lambda head: lie(peer)

    with LocalStore(tmp_path / "copy") as store:
        with pytest.raises(WireError):
            clone(peer, store, impatient)

        assert_nothing_is_left(store)
    assert not any(b"Host: 127.0.0.2" in request for request in peer.server.requests)


def test_rule_09_a_line_that_breaks_off_leaves_only_the_part_for_the_next_attempt(
    peer: Peer, tmp_path: Path, impatient: RetryPolicy
) -> None:
    honest = peer.server.answers[b"GET /storage "]
    peer.server.answers[b"GET /storage "] = lambda head: truncated(peer)

    with LocalStore(tmp_path / "copy") as store:
        with pytest.raises(RemoteUnavailableError, match="are kept"):
            clone(peer, store, impatient)
        assert store.state().refs == {}
        assert store.packs.ids() == set()
        (part,) = store.incoming.folder.iterdir()
        assert part.read_bytes() == peer.pack[:-10]
        peer.server.answers[b"GET /storage "] = honest
        clone(peer, store, impatient)
        assert list(store.incoming.folder.iterdir()) == []


def test_rule_09_storage_gets_no_credentials_and_is_asked_for_identity(
    peer: Peer, tmp_path: Path, impatient: RetryPolicy
) -> None:
    with LocalStore(tmp_path / "copy") as store:
        clone(peer, store, impatient)

    by_path = {request.split(b" ")[1]: request.lower() for request in peer.server.requests}
    assert b"authorization: bearer secret" in by_path[b"/o/r/fetch"]
    assert b"authorization" not in by_path[b"/storage"]
    assert b"cookie" not in by_path[b"/storage"]
    assert b"accept-encoding: identity" in by_path[b"/storage"]


def test_rule_09_a_pack_over_the_cap_is_refused_before_it_is_downloaded(
    peer: Peer, tmp_path: Path, impatient: RetryPolicy
) -> None:
    from starfish_mpack_wire import Limits

    with LocalStore(tmp_path / "copy") as store:
        with pytest.raises(MPackLimitError):
            clone(peer, store, impatient, limits=Limits(max_pack_bytes=1000))

        assert_nothing_is_left(store)
    assert not any(request.startswith(b"GET /storage") for request in peer.server.requests)


def test_rule_09_a_ref_moves_only_when_its_commit_came(
    peer: Peer, tmp_path: Path, impatient: RetryPolicy
) -> None:
    peer.branches["main"] = "sha256:" + "5" * 64

    with LocalStore(tmp_path / "copy") as store:
        with pytest.raises(RemoteProtocolError, match="not in the server's answer"):
            clone(peer, store, impatient)

        assert store.state().refs == {}


def test_rule_09_the_closure_must_have_come(
    peer: Peer, tree: WorkingTree, tmp_path: Path, impatient: RetryPolicy
) -> None:
    plan = plan_for(tree.store, [peer.head])
    lacking = build_mpack(plan.commits[1:], plan.snapshots, [])
    peer.offer |= {"mpack_id": blob_id(lacking), "size_bytes": len(lacking)}
    peer.server.answers[b"GET /storage "] = lambda head: http(lacking)

    with LocalStore(tmp_path / "copy") as store:
        with pytest.raises(MPackError):
            clone(peer, store, impatient)

        assert_nothing_is_left(store)


def test_an_interrupted_download_is_resumed_by_range(
    peer: Peer, tmp_path: Path, impatient: RetryPolicy
) -> None:
    half = len(peer.pack) // 2

    def storage(head: bytes) -> bytes:
        if b"range: bytes=" not in head.lower():
            return http(peer.pack[:half], Content_Length=str(len(peer.pack)), ETag='"v1"')
        assert b'if-range: "v1"' in head.lower()
        start = int(head.lower().split(b"range: bytes=")[1].split(b"-")[0])
        span = f"bytes {start}-{len(peer.pack) - 1}/{len(peer.pack)}"
        return http(peer.pack[start:], "206 Partial Content", Content_Range=span, ETag='"v1"')

    peer.server.answers[b"GET /storage "] = storage

    with LocalStore(tmp_path / "copy") as store:
        clone(peer, store, impatient)

        assert store.branches() == {"main": peer.head}
    downloads = [each for each in peer.server.requests if each.startswith(b"GET /storage")]
    assert len(downloads) == 2


def test_a_storage_without_ranges_is_asked_again_from_the_start(
    peer: Peer, tmp_path: Path, impatient: RetryPolicy
) -> None:
    tries: list[bytes] = []

    def storage(head: bytes) -> bytes:
        tries.append(head)
        if len(tries) == 1:
            return http(peer.pack[:700], Content_Length=str(len(peer.pack)))
        return http(peer.pack)

    peer.server.answers[b"GET /storage "] = storage

    with LocalStore(tmp_path / "copy") as store:
        clone(peer, store, impatient)

        assert store.branches() == {"main": peer.head}


@pytest.mark.parametrize("leftover", ["right", "wrong", "too long"])
def test_half_a_download_of_a_killed_process_is_taken_up_again_if_it_is_right(
    peer: Peer, tmp_path: Path, impatient: RetryPolicy, leftover: str
) -> None:
    def storage(head: bytes) -> bytes:
        lower = head.lower()
        if b"range: bytes=" not in lower:
            return http(peer.pack)
        start = int(lower.split(b"range: bytes=")[1].split(b"-")[0])
        span = f"bytes {start}-{len(peer.pack) - 1}/{len(peer.pack)}"
        return http(peer.pack[start:], "206 Partial Content", Content_Range=span)

    peer.server.answers[b"GET /storage "] = storage
    with LocalStore(tmp_path / "copy") as store:
        part = store.incoming.folder / f"{blob_id(peer.pack)[7:]}.part"
        part.write_bytes(
            {"right": peer.pack[:900], "wrong": b"?" * 900, "too long": bytes(10**6)}[leftover]
        )

        clone(peer, store, impatient)

        assert store.branches() == {"main": peer.head}
        assert not part.exists()
    ranged = any(b"range: bytes=900-" in each.lower() for each in peer.server.requests)
    assert ranged == (leftover != "too long")


@pytest.mark.parametrize("name", ["../../evil", "a\x1b[2J", "-rf", "x..y", "a\nb", "", 7])
def test_rule_06_names_that_a_server_sends_are_checked(
    peer: Peer, tmp_path: Path, impatient: RetryPolicy, name: Any
) -> None:
    for kind in ("branches", "tags"):
        answer = {"default_branch": "main", "branches": {}, "tags": {}, kind: {name: peer.head}}
        peer.server.answers[b"GET /o/r/refs "] = lambda head, answer=answer: message(answer)
        with LocalStore(tmp_path / kind) as store:
            with pytest.raises(RemoteProtocolError):
                clone(peer, store, impatient)

            assert_nothing_is_left(store)


@pytest.mark.parametrize(
    "answer",
    [
        http(b"<html>", Content_Type="text/html"),
        http(b"\xc1", Content_Type="application/x-msgpack"),
        http(b"\x81\xa1a" * 2000, Content_Type="application/x-msgpack"),
        message({}),
        message({"default_branch": "main", "branches": [], "tags": {}}),
        message({"default_branch": "main", "branches": {"main": "abc"}, "tags": {}}),
        http(b"", "302 Found", Location="http://127.0.0.2/"),
        http(gzip.compress(b"x"), Content_Type="application/x-msgpack", Content_Encoding="gzip"),
        http(b"x" * 5_000_000, Content_Type="application/x-msgpack"),
    ],
    ids=["html", "no msgpack", "nested", "empty", "list", "no id", "redirect", "gzip", "large"],
)
def test_answers_that_are_none_of_the_protocols_are_errors(
    raw_server: Any, impatient: RetryPolicy, answer: bytes
) -> None:
    raw_server.answers[b"GET /o/r/refs "] = lambda head: answer

    with (
        WireClient(f"{raw_server.url}/o/r", retries=impatient) as client,
        pytest.raises(RemoteProtocolError),
    ):
        client.refs()


def test_retry_after_is_honoured(raw_server: Any) -> None:
    waits: list[float] = []
    answers = [
        message({"error": "pack_building"}, "503 Service Unavailable", Retry_After="7"),
        message({"error": "rate_limited"}, "429 Too Many Requests", Retry_After="86400"),
        b"",
        message({"default_branch": "main", "branches": {}, "tags": {}}),
    ]
    raw_server.answers[b"GET /o/r/refs "] = lambda head: answers.pop(0)

    with WireClient(
        f"{raw_server.url}/o/r", retries=RetryPolicy(sleep=waits.append, longest_retry_after_s=60)
    ) as client:
        assert client.refs().branches == {}

    assert waits[:2] == [7.0, 60.0]
    assert len(waits) == 3


def test_a_server_that_never_answers_is_unavailable(
    raw_server: Any, impatient: RetryPolicy
) -> None:
    raw_server.answers[b"GET /o/r/refs "] = lambda head: b""

    with (
        WireClient(f"{raw_server.url}/o/r", retries=impatient) as client,
        pytest.raises(RemoteUnavailableError, match="3 attempts"),
    ):
        client.refs()


def test_rule_12_words_of_a_server_lose_their_control_characters(
    raw_server: Any, impatient: RetryPolicy
) -> None:
    raw_server.answers[b"GET /o/r/refs "] = lambda head: message(
        {"error": "no\x1b[31m", "detail": "\x1b]0;owned\x07 and \u202e more"}, "422 Unprocessable"
    )

    with (
        WireClient(f"{raw_server.url}/o/r", retries=impatient) as client,
        pytest.raises(RemoteRefusedError) as caught,
    ):
        client.refs()

    assert not {"\x1b", "\x07", "\u202e"} & set(str(caught.value))


def test_a_repository_that_is_not_there(raw_server: Any, impatient: RetryPolicy) -> None:
    with (
        WireClient(f"{raw_server.url}/o/none", retries=impatient) as client,
        pytest.raises(RemoteNotFoundError),
    ):
        client.refs()


@pytest.mark.parametrize(
    "url",
    ["", "ftp://h/o/r", "o/r", "http://", "http://u:p@h/o/r", "http://h:x/o/r", "file:///etc"],
)
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(WireError):
        WireClient(url)

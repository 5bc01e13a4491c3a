"""The one suite, on a real NATS server; and the particulars of that store."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_protocol.testing import ThreadSafeEventSourceContract
from starfish_watcher import (
    Coordinate,
    EventKind,
    EventStore,
    LimitExceededError,
    StoreClosed,
    StoreDamagedError,
    StoreFullError,
    StoreUnavailableError,
)
from starfish_watcher.testing import (
    AppendContract,
    DeliveryContract,
    WatchContract,
    WritingContract,
)
from starfish_watcher.testing.samples import CREDIT, NOTE, Balance, at, credit

nats = pytest.importorskip("nats", reason="the extra nats is not installed")
from starfish_watcher.jetstream import JetStreamEventStore  # noqa: E402 - only with the extra
from starfish_watcher.log.jetstream._messages import entity_subject  # noqa: E402 - only with the extra

pytestmark = pytest.mark.network
Opener = Callable[..., EventStore]


class OnJetStream:
    @pytest.fixture
    def opener(self, nats_server: Any, unique_name: str) -> Opener:
        return lambda **options: JetStreamEventStore.open(
            nats_server.url, stream=unique_name, server_sync="always", **options
        )

    @pytest.fixture
    def expression(self, nats_server: Any, unique_name: str) -> str | None:
        options = f"stream={unique_name!r}, server_sync='always'"
        opened = f"JetStreamEventStore.open({nats_server.url!r}, {options})"
        return f"__import__('starfish_watcher.jetstream').jetstream.{opened}"


class TestAppendOnJetStream(OnJetStream, AppendContract): ...


class TestWritingOnJetStream(OnJetStream, WritingContract): ...


class TestDeliveryOnJetStream(OnJetStream, DeliveryContract): ...


class TestWatchOnJetStream(OnJetStream, WatchContract): ...


class TestSourceOnJetStream(OnJetStream, ThreadSafeEventSourceContract):
    @pytest.fixture
    def source(self, opener: Opener) -> Iterator[EventStore]:
        with opener() as store:
            yield store

    def append(self, source: EventStore, entity: str) -> None:
        credit(source, entity)


class Raw:
    """The stream as any client of NATS sees it."""

    def __init__(self, url: str, stream: str) -> None:
        self.url = url
        self.stream = stream

    def do(self, work: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            client = await nats.connect(self.url)
            try:
                return await work(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(run())

    def subjects(self) -> dict[str, int]:
        answer = self.do(lambda js: js.stream_info(self.stream, subjects_filter=">"))
        return answer.state.subjects or {}

    def last_sequence(self) -> int:
        return int(self.do(lambda js: js.stream_info(self.stream)).state.last_seq)


@pytest.fixture
def raw(nats_server: Any, unique_name: str) -> Raw:
    return Raw(nats_server.url, unique_name)


@pytest.fixture
def opener(nats_server: Any, unique_name: str) -> Opener:
    return lambda **options: JetStreamEventStore.open(
        nats_server.url, stream=unique_name, **{"server_sync": "always", **options}
    )


def test_the_server_of_these_tests_does_what_they_say_it_does(nats_server: Any) -> None:
    address = f"http://127.0.0.1:{nats_server.monitor_port}/jsz?config=1"
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert json.load(answer)["config"]["sync_always"] is True


def test_each_entity_has_a_subject_of_its_own(opener: Opener, raw: Raw) -> None:
    with opener() as store:
        store.append_batch([(at("account:1"), CREDIT, {"amount": 1})] * 2)
        credit(store, "account:2")

    events = {f"{raw.stream}.event.account.1": 2, f"{raw.stream}.event.account.2": 1}
    assert raw.subjects() == events


names = st.text("ab.:*>%/ \u2028é日_~-", min_size=1, max_size=8)


@given(st.lists(names, min_size=2, max_size=2, unique=True))
def test_two_entities_never_share_a_subject(pair: list[str]) -> None:
    first, second = (entity_subject("s", name) for name in pair)

    assert first != second
    for subject in (first, second):
        tokens = subject.split(".")
        assert subject.isascii()
        assert subject.isprintable()
        assert all(token and not set(token) & set("*> ") for token in tokens)


def test_commit_is_refused_where_the_server_does_not_fsync_before_it_answers(
    opener: Opener,
) -> None:
    with opener(server_sync="interval") as store:
        with pytest.raises(LimitExceededError, match="sync_interval: always"):
            credit(store, "a", durability="commit")
        assert credit(store, "a") == credit(store, "a", durability="none") - 1 == 1


def test_a_killed_server_loses_nothing_although_it_fsyncs_seldom(
    lazy_nats_server: Any, unique_name: str
) -> None:
    with JetStreamEventStore.open(lazy_nats_server.url, stream=unique_name) as store:
        for _ in range(20):
            store.append_batch([(at("a"), CREDIT, {"amount": 1})] * 5)
        lazy_nats_server.stop(signal.SIGKILL)
        lazy_nats_server.start()
    with JetStreamEventStore.open(lazy_nats_server.url, stream=unique_name) as store:
        assert store.project(Balance, "a") == store.last_sequence() == 100
        assert store.verify_chain().events == 100


def test_a_batch_that_the_server_cannot_take_at_one_moment_is_refused(opener: Opener) -> None:
    with opener() as store:
        receipts = store.append_batch([(at("a"), CREDIT, {"amount": 1})] * 1000)
        assert receipts[-1].sequence == 1000
        with pytest.raises(LimitExceededError, match="batch of 1001 events is too large"):
            store.append_batch([(at("a"), CREDIT, {"amount": 1})] * 1001)
        assert credit(store, "a") == 1001


def test_an_event_that_the_server_has_no_room_for_is_refused(opener: Opener) -> None:
    with opener() as store:
        with pytest.raises(LimitExceededError, match="max_payload is 1048576"):
            store.append(at("a"), CREDIT, b"x" * 1_048_576)
        store.append(at("a"), CREDIT, b"x" * 1_047_000)
        assert len(store.read()[0].payload) == 1_047_000


def test_a_full_stream_is_an_error_and_reading_goes_on(opener: Opener, raw: Raw) -> None:
    with opener() as store:
        credit(store, "a")

        async def limit(js: Any) -> None:
            config = (await js.stream_info(raw.stream)).config
            config.max_bytes = 4096
            await js.update_stream(config)

        raw.do(limit)
        with pytest.raises(StoreFullError):
            store.append(at("a"), CREDIT, b"x" * 8192)
        assert store.generation("a") == 1
        assert credit(store, "a") == 2


def test_compaction_deletes_the_messages_and_a_new_replica_agrees(opener: Opener, raw: Raw) -> None:
    with opener() as store, opener() as follower:
        for number in range(6):
            store.append(at("gone"), NOTE, idempotency_key=f"k{number}")
        credit(store, "kept", 5)
        receipt = store.append(at("kept"), NOTE, idempotency_key="key")

        assert store.compact(lambda event: event.kind != NOTE) == 7
        heads = [store.generation(name) for name in ("gone", "kept")]
        after = store.append(at("gone"), CREDIT, {"amount": 3})

        assert raw.subjects() == {
            f"{raw.stream}.event.kept": 1,
            f"{raw.stream}.event.gone": 1,
            f"{raw.stream}.removal": 1,
        }
        for reader in (store, follower):
            assert reader.verify_chain().removed == 7
    with opener() as fresh:
        assert heads == [6, 2]
        assert (after.sequence, after.clock) == (9, 6)
        assert [event.sequence for event in fresh.read()] == [7, 9]
        assert (fresh.generation("gone"), fresh.generation("kept")) == (7, 2)
        assert fresh.append(at("kept"), NOTE, idempotency_key="key") == receipt
        assert fresh.append(at("gone"), NOTE, idempotency_key="k5").sequence == 6
        report = fresh.verify_chain()
        assert (report.events, report.removed) == (2, 7)
        assert fresh.project(Balance, "gone") == 3
        assert credit(fresh, "kept") == 3


def test_a_large_removal_is_seen_at_one_moment(opener: Opener) -> None:
    with opener() as store:
        for _ in range(2):
            store.append_batch([
                (Coordinate(f"{number}:{'x' * 900}", "eu"), NOTE, None) for number in range(150)
            ])  # fmt: skip
        seen: set[int] = set()
        with opener() as reader:
            watcher = reader.watch_projection(Balance, "a")
            assert store.compact(lambda _: False) == 300
            seen.add(len(reader.read(0, 10_000)))
            credit(store, "a")
            assert watcher.recv(10) == (1, 1)
        assert seen == {0}
        assert store.last_sequence() == 301
    with opener() as fresh:
        assert fresh.generation(f"7:{'x' * 900}") == 2
        assert fresh.verify_chain().removed == 300


def test_what_a_dead_remover_left_is_deleted_by_the_next_one(
    opener: Opener, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starfish_watcher.log.jetstream._connection import JetStreamConnection

    async def dies(*_: object) -> None:
        raise OSError("gone")

    with opener() as store:
        for _ in range(3):
            store.append(at("a"), NOTE)
        with monkeypatch.context() as patched:
            patched.setattr(JetStreamConnection, "delete", dies)
            with pytest.raises(StoreUnavailableError):
                store.compact(lambda event: event.sequence > 2)
        assert [event.sequence for event in store.read()] == [3]
        assert raw.subjects()[f"{raw.stream}.event.a"] == 3
    with opener() as other:
        assert [event.sequence for event in other.read()] == [3]
        assert other.compact(lambda _: False) == 1
        assert raw.subjects() == {f"{raw.stream}.removal": 2}


def test_a_kept_replica_goes_on_where_it_was(opener: Opener, tmp_path: Path) -> None:
    path = tmp_path / "replica.db"
    with opener(replica_path=path) as store:
        store.append_batch([(at("a"), CREDIT, {"amount": 1})] * 100)
        with pytest.raises(StoreUnavailableError, match="another log uses it"):
            opener(replica_path=path)
    with opener() as other:
        credit(other, "a")
    with opener(replica_path=path) as store:
        assert store.project(Balance, "a") == 101
        assert store.verify_chain().events == 101


def test_a_replica_of_another_store_or_of_another_past_is_made_anew(
    opener: Opener, raw: Raw, tmp_path: Path
) -> None:
    path = tmp_path / "replica.db"
    with opener(replica_path=path) as store:
        store.append_batch([(at("a"), CREDIT, {"amount": 1})] * 10)
    raw.do(lambda js: js.delete_stream(raw.stream))
    with opener(replica_path=path) as store:
        assert store.read() == []
        credit(store, "b")
        credit(store, "b")

    # The server went back to an older state, and others wrote since.
    async def start_anew(js: Any) -> None:
        config = (await js.stream_info(raw.stream)).config
        await js.delete_stream(raw.stream)
        await js.add_stream(config)

    raw.do(start_anew)
    with opener() as other:
        for _ in range(3):
            credit(other, "c")
    with opener(replica_path=path) as store:
        assert [event.entity for event in store.read()] == ["c", "c", "c"]


def test_a_stream_that_is_something_else_is_refused(opener: Opener, raw: Raw) -> None:
    raw.do(lambda js: js.add_stream(name=raw.stream, subjects=[f"{raw.stream}.>"]))

    with pytest.raises(StoreDamagedError, match="not an event log"):
        opener()


def test_a_stream_that_was_set_to_forget_is_refused(opener: Opener, raw: Raw) -> None:
    opener().close()

    async def forget(js: Any) -> None:
        config = (await js.stream_info(raw.stream)).config
        config.max_age = 600
        await js.update_stream(config)

    raw.do(forget)
    with pytest.raises(StoreDamagedError, match="max_age"):
        opener()


def test_a_message_that_no_store_wrote_ends_those_who_read_it(opener: Opener, raw: Raw) -> None:
    with opener() as store:
        credit(store, "a")
        watcher = store.watch_projection(Balance, "a")
        raw.do(lambda js: js.publish(f"{raw.stream}.event.a", b"hello"))

        with pytest.raises(StoreClosed, match="message 2: no event log wrote it"):
            watcher.recv(10)
    with pytest.raises(StoreDamagedError, match="message 2"):
        opener()


def test_a_stream_that_is_deleted_ends_its_watchers(
    opener: Opener, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three of them must be missing before anybody asks whether the stream is there.
    monkeypatch.setattr("starfish_watcher.log.jetstream._follower.HEARTBEAT_S", 0.3)
    with opener() as store:
        credit(store, "a")
        watcher = store.watch_projection(Balance, "a")
        raw.do(lambda js: js.delete_stream(raw.stream))

        with pytest.raises(StoreClosed):
            watcher.recv(20)


@pytest.mark.parametrize("stream", ["", "a.b", "a b", "a>", "ü", "x" * 129])
def test_a_name_that_is_no_token_is_refused(stream: str) -> None:
    with pytest.raises(ValueError, match="ASCII letters, digits"):
        JetStreamEventStore.open(stream=stream)


def test_no_password_is_in_a_message(nats_server: Any) -> None:
    nats_url = nats_server.url.replace("//", "//user:pa55@")
    with JetStreamEventStore.open(nats_url, stream="t_password") as store:
        assert store.location == f"nats://127.0.0.1:{nats_server.port}#t_password"
        assert store.append(at("a"), EventKind.custom(1, 1)).clock >= 0

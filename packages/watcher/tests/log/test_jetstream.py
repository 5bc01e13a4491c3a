"""The one suite, on a real NATS server; and what is particular to that store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from starfish_protocol.testing_events import EventSourceContract
from starfish_watcher import EventStore
from starfish_watcher.testing import AppendContract, DeliveryContract, WatchContract
from starfish_watcher.testing.samples import credit

pytest.importorskip("nats", reason="the extra nats is not installed")
from starfish_watcher.jetstream import JetStreamEventStore

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


class TestDeliveryOnJetStream(OnJetStream, DeliveryContract): ...


class TestWatchOnJetStream(OnJetStream, WatchContract): ...


class TestSourceOnJetStream(OnJetStream, EventSourceContract):
    @pytest.fixture
    def source(self, opener: Opener) -> Iterator[EventStore]:
        with opener() as store:
            yield store

    def append(self, source: EventStore, entity: str) -> None:
        credit(source, entity)

"""The one suite, on a real PostgreSQL server; and what is particular to that store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from starfish_protocol.testing_events import EventSourceContract
from starfish_watcher import EventStore
from starfish_watcher.testing import AppendContract, DeliveryContract, WatchContract
from starfish_watcher.testing.samples import credit

pytest.importorskip("psycopg", reason="the extra postgres is not installed")
from starfish_watcher.postgres import PostgresEventStore

pytestmark = pytest.mark.network
Opener = Callable[..., EventStore]


class OnPostgres:
    @pytest.fixture
    def opener(self, postgres_server: Any, unique_name: str) -> Opener:
        return lambda **options: PostgresEventStore.open(
            postgres_server.dsn, schema=unique_name, **options
        )

    @pytest.fixture
    def expression(self, postgres_server: Any, unique_name: str) -> str | None:
        opened = f"PostgresEventStore.open({postgres_server.dsn!r}, schema={unique_name!r})"
        return f"__import__('starfish_watcher.postgres').postgres.{opened}"


class TestAppendOnPostgres(OnPostgres, AppendContract): ...


class TestDeliveryOnPostgres(OnPostgres, DeliveryContract): ...


class TestWatchOnPostgres(OnPostgres, WatchContract): ...


class TestSourceOnPostgres(OnPostgres, EventSourceContract):
    @pytest.fixture
    def source(self, opener: Opener) -> Iterator[EventStore]:
        with opener() as store:
            yield store

    def append(self, source: EventStore, entity: str) -> None:
        credit(source, entity)

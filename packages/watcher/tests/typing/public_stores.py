"""The stores on servers and runners as a user sees them; read by the type checkers, never run."""

from typing import Any, assert_type

from starfish_watcher import (
    AsyncRunner,
    Event,
    EventStore,
    MemorySink,
    Runner,
    RunnerStats,
    View,
)
from starfish_watcher.jetstream import JetStreamEventStore
from starfish_watcher.log.base import EventLog
from starfish_watcher.log.jetstream import JetStreamEventLog
from starfish_watcher.log.postgres import PostgresEventLog
from starfish_watcher.postgres import PostgresEventStore, PostgresSink


class Totals(View[Any]):
    name = "totals"

    def apply(self, tables: Any, event: Event) -> None:
        pass


def stores() -> None:
    postgres = PostgresEventStore.open("postgresql:///app", schema="events", durability="batched")
    assert_type(postgres, EventStore)
    jetstream = JetStreamEventStore.open(
        ["nats://a", "nats://b"], stream="events", server_sync="always", replica_path="replica.db"
    )
    assert_type(jetstream, EventStore)
    logs: list[EventLog] = [PostgresEventLog("postgresql:///app"), JetStreamEventLog("nats://a")]
    for log in logs:
        assert_type(EventStore(log).get(postgres.read()[0].event_id), Event | None)


def runners(store: EventStore, sink: PostgresSink) -> None:
    runner = Runner(store, [Totals()], name="r", sink=sink, poison="park", partitions=4)
    assert_type(runner.run(until_end=True), int)
    assert_type(runner.stats(), RunnerStats)
    AsyncRunner(store.aio, [Totals()], name="r", sink=MemorySink())

"""The stores on servers and the server plugin as a user sees them; read by the type checkers, never run."""

from typing import assert_type

from starfish_protocol.plugins import ServerPlugin, WriteEvent
from starfish_watcher import Event, EventKind, EventStore
from starfish_watcher.jetstream import JetStreamEventStore
from starfish_watcher.log.base import EventLog
from starfish_watcher.log.jetstream import JetStreamEventLog
from starfish_watcher.log.postgres import PostgresEventLog
from starfish_watcher.postgres import PostgresEventStore
from starfish_watcher.server import DOCUMENT_WRITTEN, create_event_log_plugin, document_entity


def kind_of(event: WriteEvent) -> EventKind:
    return EventKind.custom(0xF, len(event.params))


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


def plugins(store: EventStore) -> None:
    assert_type(create_event_log_plugin(store), ServerPlugin)
    create_event_log_plugin(store, kind=kind_of, scope=lambda event: event.collection)
    create_event_log_plugin(store, kind=DOCUMENT_WRITTEN, collections={"notes"})
    assert_type(document_entity("notes/ada"), str)

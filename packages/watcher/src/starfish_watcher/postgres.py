"""Event stores, and tables of views, in PostgreSQL: extra ``postgres``."""

from __future__ import annotations

from typing import final

from starfish_protocol.clock import Clock
from starfish_watcher._model.new_event import Durability
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher._runner.postgres_sink import PostgresSink
from starfish_watcher._store import EventStore
from starfish_watcher.fault_points import FaultPoints
from starfish_watcher.key_ring import KeyRing
from starfish_watcher.log.postgres import PostgresEventLog

__all__ = ("PostgresEventStore", "PostgresSink")


@final
class PostgresEventStore:
    """Opens event stores whose events are in a PostgreSQL database."""

    @staticmethod
    def open(
        dsn: str,
        *,
        schema: str = "starfish_events",
        patience_s: float = 300.0,
        durability: Durability = "commit",
        clock: Clock | None = None,
        snapshots: SnapshotCache | None = None,
        fault_points: FaultPoints | None = None,
        keys: KeyRing | None = None,
    ) -> EventStore:
        """A store in one schema, made when it is missing; several processes may open it.

        Args:
            dsn: A libpq connection string or URL.
            schema: Where the tables are.
            patience_s: How long watchers wait for a server that went away before they end with
                `StoreClosed`. Until then they sleep, and go on when it is back.
            durability: When an append returns that does not say so itself.
            clock: Where ids and timestamps come from.
            snapshots: Where states of projections outlive the process.
            fault_points: For tests: where the append path may be made to fail.
            keys: Seals the payloads of each entity with a key of its own; its owner closes it.

        Raises:
            StoreDamagedError: the schema holds something else, or another version.
            StoreUnavailableError: the server does not answer or does not let us in.
            ValueError: ``dsn`` or ``schema`` is refused; the message names the rule.
        """
        return EventStore(
            PostgresEventLog(dsn, schema=schema, patience_s=patience_s),
            durability=durability,
            clock=clock,
            snapshots=snapshots,
            fault_points=fault_points,
            keys=keys,
        )

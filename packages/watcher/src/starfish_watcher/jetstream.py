"""Event stores in NATS JetStream: extra ``nats``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, final

from starfish_protocol.clock import Clock
from starfish_watcher._model.new_event import Durability
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher._store import EventStore
from starfish_watcher.fault_points import FaultPoints
from starfish_watcher.key_ring import KeyRing
from starfish_watcher.log.jetstream import JetStreamEventLog, ServerSync

__all__ = ("JetStreamEventStore",)


@final
class JetStreamEventStore:
    """Opens event stores whose events are in a JetStream stream."""

    @staticmethod
    def open(
        servers: str | Sequence[str] = "nats://127.0.0.1:4222",
        *,
        stream: str = "starfish-events",
        server_sync: ServerSync = "interval",
        num_replicas: int = 1,
        replica_path: str | os.PathLike[str] | None = None,
        patience_s: float = 300.0,
        connect_options: dict[str, Any] | None = None,
        durability: Durability | None = None,
        clock: Clock | None = None,
        snapshots: SnapshotCache | None = None,
        fault_points: FaultPoints | None = None,
        keys: KeyRing | None = None,
    ) -> EventStore:
        """A store in one stream, made when it is missing; several processes may open it.

        Args:
            servers: Addresses of the servers of one cluster, 2.12 or later.
            stream: Name of the stream, and first token of its subjects.
            server_sync: What the servers' configuration says: ``always`` for
                ``sync_interval: always``. Only then is the durability ``commit`` accepted.
            num_replicas: Servers that keep the stream, when it is made here.
            replica_path: Where this handle's replica is kept for the next time; a temporary file
                when ``None``.
            patience_s: How long watchers wait for a server that went away before they end with
                `StoreClosed`. Until then they sleep, and go on when it is back.
            connect_options: More arguments of ``nats.connect``: credentials, TLS.
            durability: When an append returns that does not say so itself; ``commit`` where
                ``server_sync`` allows it, else ``batched``.
            clock: Where ids and timestamps come from.
            snapshots: Where states of projections outlive the process.
            fault_points: For tests: where the append path may be made to fail.
            keys: Seals the payloads of each entity with a key of its own; its owner closes it.

        Raises:
            StoreDamagedError: the stream is something else, or was set to forget messages.
            StoreUnavailableError: no server answers, it is too old, or the replica is in use.
            ValueError: an argument is refused; the message names the rule.
        """
        log = JetStreamEventLog(
            servers,
            stream=stream,
            server_sync=server_sync,
            num_replicas=num_replicas,
            replica_path=replica_path,
            patience_s=patience_s,
            connect_options=connect_options,
        )
        return EventStore(
            log,
            durability=durability or ("commit" if server_sync == "always" else "batched"),
            clock=clock,
            snapshots=snapshots,
            fault_points=fault_points,
            keys=keys,
        )

"""A log in a NATS JetStream stream: extra ``nats``, server 2.12 or later.

The stream is the log: one message an event, on the subject of its entity, and nothing is true
that is not in it. Writers of all processes race for its next sequence: each publishes its group
as one atomic batch that expects the stream to be where the writer judged it, so that the server
decides and a group is stored whole or not at all. Each handle follows the stream into a SQLite
file of its own, where it reads; a read first asks the stream how far it is and waits for the
replica to be there, so that it never misses what any process has appended before.

Durability: the answer of the server means what its configuration says. By default it writes to
the operating system and fsyncs every two minutes; with ``sync_interval: always`` it fsyncs each
message before it answers. The client cannot see which, so `JetStreamEventLog` is told.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any, Final

from blake3 import blake3

if find_spec("nats") is None:
    msg = 'starfish_watcher.log.jetstream needs the extra nats: pip install --find-links dist "starfish-watcher[nats]"'
    raise ImportError(msg)

from starfish_watcher._limits import BUSY_TIMEOUT_S
from starfish_watcher._model.event import Event
from starfish_watcher._model.new_event import Durability, PreparedEvent
from starfish_watcher._model.region import Region
from starfish_watcher.errors import (
    StoreClosed,
    StoreUnavailableError,
    WatcherError,
)
from starfish_watcher.fault_points import FaultPoint
from starfish_watcher.log.base import AppendResult, EntityHead, History, Listener, Removals, Stamp
from starfish_watcher.log.jetstream._connection import (
    JetStreamConnection,
)
from starfish_watcher.log.jetstream._listener import ReplicaListener
from starfish_watcher.log.jetstream._messages import (
    check_stream_name,
)
from starfish_watcher.log.jetstream._replica import Replica, StoredMessage
from starfish_watcher.log.jetstream._writer import JetStreamWriter, ServerSync

__all__ = ("JetStreamEventLog", "ServerSync")

STALL_S: Final = BUSY_TIMEOUT_S
"""How long a replica may make no progress before those who wait for it give up."""


class JetStreamEventLog:
    """Keeps events in one stream that several threads and processes may share."""

    def __init__(
        self,
        servers: str | Sequence[str] = "nats://127.0.0.1:4222",
        *,
        stream: str = "starfish-events",
        server_sync: ServerSync = "interval",
        num_replicas: int = 1,
        replica_path: str | os.PathLike[str] | None = None,
        patience_s: float = 300.0,
        connect_options: dict[str, Any] | None = None,
    ) -> None:
        """Connect, make the stream when it is missing, and read all that is in it.

        Args:
            servers: Addresses of the servers of one cluster.
            stream: Name of the stream, and first token of its subjects.
            server_sync: What the server does before it answers; only with ``always`` an append
                with the durability ``commit`` is accepted.
            num_replicas: Servers that keep the stream, when it is made here.
            replica_path: Where the replica is kept for the next time; a temporary file when
                ``None``. One log at a time may use it.
            patience_s: How long listeners wait for a server that went away before they give up.
            connect_options: More arguments of ``nats.connect``: credentials, TLS.

        Raises:
            StoreDamagedError: the stream is something else, or was set to forget messages.
            StoreUnavailableError: no server answers, it is too old, or the replica is in use.
            ValueError: ``stream`` is refused; the message names the rule.
        """
        check_stream_name(stream)
        writer_id = uuid.uuid4().bytes
        self._listeners: list[ReplicaListener] = []
        self._fatal: WatcherError | None = None
        self._opened_at: int | None = None
        self._replica = Replica(replica_path, writer_id)
        try:
            self._connection = JetStreamConnection(
                [servers] if isinstance(servers, str) else servers,
                stream,
                connect_options or {},
                patience_s=patience_s,
                lost=self._on_lost,
            )
        except BaseException:
            self._replica.close()
            raise
        try:
            self._store_id = self._connection.prepare_stream(num_replicas)
            self._replica.begin(self._store_id, self._has_message)
            self._connection.follow(lambda: self._replica.applied + 1, self._take)
            self._catch_up()
            self._opened_at = self._replica.position
        except BaseException:
            self._connection.close()
            self._replica.close()
            raise
        self._writer = JetStreamWriter(
            self._connection,
            self._replica,
            stream=stream,
            writer_id=writer_id,
            server_sync=server_sync,
            catch_up=self._catch_up,
            check_usable=self._check_usable,
        )

    @property
    def location(self) -> str:
        """Servers and stream."""
        return self._connection.location

    @property
    def store_id(self) -> str:
        """Made with the stream and kept in its metadata."""
        return self._store_id

    def _has_message(self, position: int, mark: bytes) -> bool:
        body = self._connection.run(self._connection.body_at(position))
        return body is not None and blake3(body).digest() == mark

    def _take(self, messages: Sequence[StoredMessage]) -> None:
        if self._replica.has_hole(messages):
            # A handle that deletes messages has said so in the stream before.
            last = self._connection.run(self._connection.last_sequence())
            self._replica.hold_until(last)
        self._replica.apply(messages)
        if self._opened_at is not None and self._replica.closed_at > self._opened_at:
            self._on_lost(StoreClosed("another handle of it was closed everywhere"))

    def _on_lost(self, error: WatcherError) -> None:
        if not isinstance(error, StoreUnavailableError):
            self._fatal = self._fatal or error
        for listener in self._listeners:
            listener.fail(error)
        self._replica.wake()

    def _catch_up(self) -> None:
        """Return when the replica shows all that was in the stream when this was called."""
        self._check_usable()
        self._connection.check_connected()
        target = self._connection.run(self._connection.last_sequence())
        while not self._replica.wait_for(target, STALL_S, lambda: self._fatal is not None):
            self._check_usable()
            position = self._replica.applied
            if position == self._stalled_at:
                reason = f"nothing of it was read for {STALL_S:g} s"
                raise StoreUnavailableError(self.location, reason)
            self._stalled_at = position

    _stalled_at = -1

    def _check_usable(self) -> None:
        if self._fatal is not None:
            raise self._fatal.own_copy()

    def append(
        self,
        requests: Sequence[Sequence[PreparedEvent]],
        *,
        stamp: Stamp,
        durability: Durability,
        reached: Callable[[FaultPoint], None],
    ) -> AppendResult:
        """As `EventLog.append`: an atomic batch for each 1,000 events.

        A request of more than 1,000 events, or with an event that the server's ``max_payload``
        has no room for, is refused with `StoreUnavailableError` as its outcome.

        Raises:
            AppendUncertainError: a server fell silent during the commit.
            StoreUnavailableError: also when ``commit`` is more than the server does.
        """
        return self._writer.append(requests, stamp=stamp, durability=durability, reached=reached)

    def read(
        self, after: int, limit: int, *, entity: str | None = None, region: Region | None = None
    ) -> Sequence[Event]:
        """As `EventLog.read`."""
        self._catch_up()
        return self._replica.log.read(after, limit, entity=entity, region=region)

    def get(self, event_id: bytes) -> Event | None:
        """As `EventLog.get`."""
        self._catch_up()
        return self._replica.log.get(event_id)

    def head(self, entity: str) -> EntityHead:
        """As `EventLog.head`."""
        self._catch_up()
        return self._replica.log.head(entity)

    def heads(self, prefix: str | None) -> dict[str, EntityHead]:
        """As `EventLog.heads`."""
        self._catch_up()
        return self._replica.log.heads(prefix)

    def last_sequence(self) -> int:
        """As `EventLog.last_sequence`."""
        self._catch_up()
        return self._replica.log.last_sequence()

    def history(
        self, entity: str, *, after: int, kinds: Sequence[int], raw: bool
    ) -> AbstractContextManager[History]:
        """As `EventLog.history`."""
        self._catch_up()
        return self._replica.log.history(entity, after=after, kinds=kinds, raw=raw)

    def remove(self, sequences: Sequence[int]) -> int:
        """As `EventLog.remove`: a record of it in the stream, then the messages are deleted.

        From the record on no reader sees the events. A process that dies before all messages are
        deleted leaves the rest hidden in the stream, for the next one who removes something.
        """
        return self._writer.remove(sequences)

    def removals(self, after: int) -> Removals:
        """As `EventLog.removals`; numbered by this handle, from what its replica has seen."""
        self._catch_up()
        return self._replica.log.removals(after)

    def mark(self, sequence: int) -> bytes | None:
        """As `EventLog.mark`; a replica that never saw a removed event has no mark of it."""
        self._catch_up()
        return self._replica.log.mark(sequence)

    def listen(
        self, changed: Callable[[], bool], failed: Callable[[BaseException], None]
    ) -> Listener:
        """As `EventLog.listen`: a thread that waits for the replica."""
        listener = ReplicaListener(self._replica, changed, failed)
        self._listeners = [one for one in self._listeners if one.alive] + [listener]
        if self._fatal is not None:
            listener.fail(self._fatal)
        return listener

    def announce_close(self) -> None:
        """As `EventLog.announce_close`: a message in the stream."""
        self._writer.announce_close()

    def flush(self) -> None:
        """Nothing is left to do here: when the server fsyncs is a matter of its configuration."""

    def close(self) -> None:
        """End the connection and release the replica."""
        for listener in self._listeners:
            listener.close()
        for listener in self._listeners:
            listener.join()
        self._connection.close()
        self._replica.close()

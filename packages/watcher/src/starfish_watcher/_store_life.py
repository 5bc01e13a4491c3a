"""The life of an event store: what it holds, how it ends, and who is told."""

from __future__ import annotations

import contextlib
import threading
import warnings
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import Self

from starfish_protocol.clock import Clock, SystemClock
from starfish_watcher._append_writer import AppendWriter
from starfish_watcher._delivery.hub import Hub
from starfish_watcher._fork_guard import ForkGuard
from starfish_watcher._model.event_id import EventIdSource
from starfish_watcher._model.new_event import Durability, check_durability
from starfish_watcher._projection.snapshots import SnapshotCache
from starfish_watcher._projection.states import ProjectionStates
from starfish_watcher._watchers.lookers import Lookers
from starfish_watcher.errors import ProjectionFailed, StoreClosed, WatcherError
from starfish_watcher.fault_points import FaultPoints
from starfish_watcher.key_ring import KeyRing
from starfish_watcher.log.base import EventLog, Stamp

__all__ = ("StoreLife",)


class StoreLife:
    """Holds a log and all that stands on it, and lets go of both."""

    def __init__(
        self,
        log: EventLog,
        *,
        durability: Durability = "commit",
        clock: Clock | None = None,
        snapshots: SnapshotCache | None = None,
        fault_points: FaultPoints | None = None,
        keys: KeyRing | None = None,
    ) -> None:
        """Take over ``log``, which `close` closes.

        Args:
            log: Where the events are kept.
            durability: When an append returns that does not say so itself.
            clock: Where ids and timestamps come from.
            snapshots: Where states of projections outlive the process.
            fault_points: For tests: where the append path may be made to fail.
            keys: Seals the payloads of each entity with a key of its own; its owner closes it.
        """
        check_durability(durability)
        self._log = log
        self._durability: Durability = durability
        self._guard = ForkGuard()
        self._closing = threading.Lock()
        self._closed: BaseException | None = None
        self._snapshots = snapshots
        self._keys = keys
        clock = clock or SystemClock()
        self._states = ProjectionStates(log, clock, snapshots=snapshots)
        self.lookers = Lookers()
        """Where asyncio watchers look; their face starts them."""
        self._hub = Hub(log)
        ended = weakref.WeakMethod(self._end)

        def end(reason: BaseException) -> None:
            # The threads of a store must not keep it: one that nobody holds lets go.
            if (method := ended()) is not None:
                method(reason)

        self._hub.on_failure(end)
        ids = EventIdSource(clock)
        self._writer = AppendWriter(
            log,
            Stamp(ids.next, lambda: max(0, clock.now_ms()) * 1000, ids.seen),
            publish=self._hub.publish,
            catch_up=self._hub.catch_up,
            died=end,
            fault_points=fault_points or FaultPoints(),
        )
        self._finalizer = weakref.finalize(
            self, _let_go, log, self._hub, self._writer, self.lookers, snapshots, self._guard
        )
        self._finalizer.atexit = False

    @property
    def store_id(self) -> str:
        """32 hex digits that tell this store from all others, made with it."""
        return self._log.store_id

    @property
    def location(self) -> str:
        """Where the events are kept: a path or a name."""
        return self._log.location

    def close(self, *, everywhere: bool = False) -> None:
        """Write the appends that were taken, flush, release the log, and wake every blocked reader.

        With ``everywhere`` the stores of the same log in other processes close too, if anything
        waits in them. May be called twice and from any thread.
        """
        if self._guard.is_inherited:
            self._closed = self._closed or StoreClosed()
            self._finalizer.detach()
            return
        if everywhere and self._closed is None:
            self._log.announce_close()
        self._end(StoreClosed())

    def _end(self, reason: BaseException) -> None:
        self._finalizer.detach()
        with self._closing:
            if self._closed is not None:
                return
            self._closed = reason
        # First, so that nobody waits for a disk that does not answer.
        self._hub.fail(reason)
        self._writer.close(reason)
        self.lookers.close()
        self._log.close()
        if self._snapshots is not None:
            self._snapshots.close()

    def _check_open(self) -> None:
        self._guard.check()
        if self._closed is not None:
            raise StoreClosed.because_of(self._closed)

    @contextmanager
    def _reading(self) -> Generator[None]:
        """A read that is under way when the store ends is told of that, not of what it broke."""
        self._check_open()
        try:
            yield
        except ProjectionFailed:
            raise
        except WatcherError:
            if self._closed is not None:
                raise StoreClosed.because_of(self._closed)  # noqa: B904 - its cause is set
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _let_go(  # noqa: PLR0917 - called by a finalizer, without keywords
    log: EventLog,
    hub: Hub,
    writer: AppendWriter,
    lookers: Lookers,
    snapshots: SnapshotCache | None,
    guard: ForkGuard,
) -> None:
    """What `close` does, for a store that nobody closed and nobody holds any more."""
    if guard.is_inherited:
        return

    def release() -> None:
        reason = StoreClosed("nobody held it any more")
        with contextlib.suppress(WatcherError):
            hub.fail(reason)
            writer.close(reason)
            lookers.close()
            log.close()
            if snapshots is not None:
                snapshots.close()

    # In a thread: this runs wherever the garbage collector does, which may hold a lock of ours.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=release, name="starfish-release", daemon=True).start()
    warnings.warn(f"event store {log.location} was never closed", ResourceWarning, stacklevel=2)

"""The server plugin: from the ``after_write`` hook to the lists.

Rule: the server is not imported; a store and a plugin contract are all that is shared.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from starfish_projection._change_log import StoreLog, log_of
from starfish_projection._definition import Projection
from starfish_projection._drops import Drops, FoldCounters, OnDrop, ProjectionStats
from starfish_projection._list_memory import ListMemory
from starfish_projection._list_reader import ListReader
from starfish_projection._list_storage import ListStorage
from starfish_projection._log_folder import LogFolder
from starfish_projection._parking import Failure, ParkedWrite
from starfish_projection._projected_write import (
    ProjectedWrite,
    ProjectionFailure,
    project_removal,
    project_write,
    stored_write,
)
from starfish_projection._sole_process import SoleProcess
from starfish_projection._store import ListStore
from starfish_projection._target_writer import FoldOptions, TargetWriters
from starfish_protocol.clock import Clock, SystemClock
from starfish_protocol.errors import StarfishError
from starfish_protocol.plugins import ServerPlugin, WriteEvent

__all__ = ("PLUGIN_NAME", "ProjectionPlugin", "create_projection_server_plugin")

PLUGIN_NAME = "starfish-projection"
"""The name by which a server knows the plugin."""

_STOP_S = 3.0
"""How long a stop waits for unfolded writes; the rest is folded by the next process."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProjectionPlugin(ServerPlugin):
    """The plugin as a server takes it, and its numbers."""

    _counters: FoldCounters = field(default_factory=FoldCounters, repr=False)
    _memory: ListMemory | None = field(default=None, repr=False)
    _folder: LogFolder | None = field(default=None, repr=False)
    _log: StoreLog | None = field(default=None, repr=False)

    def stats(self) -> ProjectionStats:
        """What the plugin has done since it was made; a snapshot."""
        memory = self._memory
        return self._counters.snapshot(
            remembered_lists=0 if memory is None else len(memory),
            remembered_bytes=0 if memory is None else memory.size_bytes,
        )

    async def wait_for(self, sequence: int | None = None, *, timeout: float = 30.0) -> None:
        """Wait until the lists hold every write so far, in this process or another.

        Returns at once where the store keeps no change log: then each push waited for its own.

        Args:
            sequence: of a change of the store's log; ``None`` for all that was written so far.
            timeout: seconds.

        Raises:
            TimeoutError: the lists are not there yet.
            StarfishError: the store does not answer.
        """
        if self._folder is None or self._log is None:
            return
        async with asyncio.timeout(timeout):
            wanted = await self._log.last_sequence() if sequence is None else sequence
            await self._folder.folded(wanted, None)

    async def parked(self) -> list[ParkedWrite]:
        """Tell the writes that could not be folded and wait for `retry_parked`.

        Those whose list could not be written are tried again by themselves as well. Empty where
        the store keeps no change log: such writes are only reported.

        Raises:
            StarfishError: the store does not answer.
        """
        return [] if self._folder is None else await self._folder.parked()

    async def retry_parked(self) -> int:
        """Try every parked write again, as after a mistake in ``project`` was mended.

        Returns:
            How many are in their lists now.

        Raises:
            StarfishError: the store does not answer.
        """
        return 0 if self._folder is None else await self._folder.retry_parked()


def create_projection_server_plugin(
    *,
    store: ListStore,
    projections: Sequence[Projection],
    max_retries: int = 8,
    max_items: int | None = None,
    on_drop: OnDrop | None = None,
    fold_timeout_ms: int = 30_000,
    project_timeout_ms: int | None = None,
    max_remembered_lists: int = 256,
    max_remembered_bytes: int = 64 * 1024 * 1024,
    catch_up_every_ms: int = 1000,
    pieces_above_bytes: int | None = 64 * 1024,
    clock: Clock | None = None,
) -> ProjectionPlugin:
    """Make the plugin that keeps the lists of these projections.

    A push returns after its operation is in the stored list, or was dropped and reported. Lists
    are written with the plugin's own authority, straight to ``store``.

    Where ``store`` keeps a change log, that is the queue: of all processes one folds at a time,
    and a push waits until the log is folded beyond its own write, whichever process it went to.
    Writes that came while no process folded are folded when one starts; a start does not wait for
    that. A write that cannot be folded is reported once and parked: see `ProjectionPlugin.parked`.
    When a document is deleted or has expired, its entry goes. Writes of append-only and binary
    collections are folded by the process that took them, as they cannot be read again.

    Without a change log one process at a time may keep the lists; a second one is refused when it
    starts.

    Args:
        store: where the lists are, usually the server's own store.
        projections: the views; one write may feed several.
        max_retries: compare-and-swaps that a fold may lose to other writers.
        max_items: entries of a list beyond which appends are dropped.
        on_drop: told of each operation that did not reach its list; may be async, may push again.
        fold_timeout_ms: longest time that the store may take for one fold, retries included.
        project_timeout_ms: longest time that an async ``project`` may take for one write; ``None``
            for ``fold_timeout_ms``.
        max_remembered_lists: lists whose last version is kept in memory.
        max_remembered_bytes: about how much memory they may take together.
        catch_up_every_ms: time between two tries of writes whose list could not be written.
        pieces_above_bytes: length of a list above which it is stored in pieces, so that an append
            writes its own bytes and not the list; pulls give the whole list as before. ``None`` for
            never, where something else than a server with this plugin reads the lists.
        clock: tells the time of a list's writing.

    Raises:
        ValueError: a number is out of range; the message says which, and the allowed values.
        TypeError: ``projections`` holds something else than `Projection`.

    Examples:
        >>> from starfish_projection import ProjectionSet
        >>> class NoStore:
        ...     get_string = list_keys = put = get_with_etag = put_if_match = None
        >>> titles = Projection("notes", "titles", lambda e: ProjectionSet(e.params["note"], {}))
        >>> plugin = create_projection_server_plugin(store=NoStore(), projections=[titles])
        >>> plugin.name, plugin.stats().operations
        ('starfish-projection', 0)
    """
    if max_remembered_lists < 0 or max_remembered_bytes < 0:
        raise ValueError(
            f"max_remembered_lists is {max_remembered_lists} and max_remembered_bytes is "
            f"{max_remembered_bytes}; both must be at least 0"
        )
    if catch_up_every_ms < 1:
        raise ValueError(f"catch_up_every_ms is {catch_up_every_ms}; it must be at least 1")
    options = FoldOptions(
        max_retries=max_retries,
        max_items=max_items,
        timeout_ms=fold_timeout_ms,
        project_timeout_ms=fold_timeout_ms if project_timeout_ms is None else project_timeout_ms,
        pieces_above_bytes=pieces_above_bytes,
    )
    counters = FoldCounters()
    drops = Drops(counters, on_drop)
    memory = ListMemory(max_lists=max_remembered_lists, max_bytes=max_remembered_bytes)
    time = SystemClock() if clock is None else clock
    writers = TargetWriters(
        store, options=options, memory=memory, counters=counters, drops=drops, clock=time
    )
    reader = ListReader(ListStorage(store, pieces_above_bytes=pieces_above_bytes), time)
    follower = _Follower(
        store, projections, writers=writers, drops=drops, options=options, counters=counters
    )
    log = log_of(store)
    if log is None:
        sole = SoleProcess(store, projections)
        return ProjectionPlugin(
            PLUGIN_NAME,
            after_write=follower.after_write,
            intercept_pull=reader.intercept_pull,
            read_stored=reader.read_stored,
            startup=sole.start,
            shutdown=lambda: _shut_down(writers, sole.stop, options),
            _counters=counters,
            _memory=memory,
        )
    folder = LogFolder(
        store,
        log,
        projections,
        follower.fold_logged,
        counters=counters,
        retry_every_ms=catch_up_every_ms,
    )
    follower.follow(folder, log)
    limit_s = min(_STOP_S, fold_timeout_ms / 1000)
    return ProjectionPlugin(
        PLUGIN_NAME,
        after_write=follower.after_write,
        intercept_pull=reader.intercept_pull,
        read_stored=reader.read_stored,
        startup=folder.start,
        shutdown=lambda: _shut_down(writers, partial(folder.stop, limit_s), options),
        _counters=counters,
        _memory=memory,
        _folder=folder,
        _log=log,
    )


async def _shut_down(
    writers: TargetWriters, stop: Callable[[], Awaitable[None]], options: FoldOptions
) -> None:
    limit_s = min(_STOP_S, options.timeout_ms / 1000)
    try:
        async with asyncio.timeout(limit_s):
            await writers.settle()
    except TimeoutError:
        logger.warning("operations were not folded within %g s of the stop", limit_s)
    await stop()
    await writers.cut_off()


class _Follower:
    """Takes the writes of source collections to the lists."""

    def __init__(
        self,
        store: ListStore,
        projections: Sequence[Projection],
        *,
        writers: TargetWriters,
        drops: Drops,
        options: FoldOptions,
        counters: FoldCounters,
    ) -> None:
        self._store = store
        self._writers = writers
        self._drops = drops
        self._counters = counters
        self._limit_s = options.project_timeout_ms / 1000
        self._wait_s = (options.timeout_ms + options.project_timeout_ms) / 1000
        self._folder: LogFolder | None = None
        self._log: StoreLog | None = None
        self._readable: set[tuple[str | None, str]] = set()
        self._by_source: dict[str, list[Projection]] = {}
        for projection in projections:
            if not isinstance(cast("object", projection), Projection):
                raise TypeError(
                    f"projections hold {projection!r}; each of them must be a Projection"
                )
            for source in dict.fromkeys(projection.sources):
                self._by_source.setdefault(source, []).append(projection)

    def follow(self, folder: LogFolder, log: StoreLog) -> None:
        """Leave the writes that the log holds to the process that folds."""
        self._folder, self._log = folder, log

    async def after_write(self, event: WriteEvent) -> None:
        if event.collection in self._by_source:
            # In a task of its own: the document is stored, so its list must follow even when the
            # request is cancelled, and those folded together with it must not notice.
            task = self._writers.start(self._follow(event))
            await asyncio.wait([task])
            task.result()

    async def _follow(self, event: WriteEvent) -> None:
        folder, log = self._folder, self._log
        if folder is None or log is None or not folder.is_running:
            await self._fold(event)
            return
        key = _store_key(event)
        is_logged = event.is_deleted or (key and await self._can_be_read_again(key, event))
        if key is None or not is_logged:
            await self._fold(event)
            return
        try:
            async with asyncio.timeout(self._wait_s):
                # The write is in the log by now, so it is at or before the end.
                await folder.folded(await log.last_sequence(), key)
        except (TimeoutError, StarfishError) as error:
            self._counters.late += 1
            logger.warning(
                "a write of collection %r was answered before it was in its list: %s",
                event.collection,
                type(error).__name__,
            )

    async def _can_be_read_again(self, key: str, event: WriteEvent) -> bool:
        """Whether the collection holds ordinary documents, which the log is enough for."""
        source = (event.namespace, event.collection)
        if event.body is None:
            return False
        if source in self._readable:
            return True
        try:
            text = await self._store.get_string(key)
        except StarfishError:
            return False
        if text is None or stored_write(text, event) is None:
            return False
        self._readable.add(source)
        return True

    async def _fold(self, event: WriteEvent) -> None:
        """Fold a write that this process took."""
        writes, _ = await self._project(event, is_gone=event.is_deleted, quiet=False)
        outcomes = self._writers.submit(writes)
        if outcomes:
            await asyncio.wait(outcomes)

    async def fold_logged(self, event: WriteEvent, quiet: bool) -> Sequence[Failure]:  # noqa: FBT001
        """Fold a write that the log told of."""
        writes, failures = await self._project(event, is_gone=event.body is None, quiet=quiet)
        outcomes = self._writers.submit(writes, is_ordered=True, is_quiet=quiet)
        if outcomes:
            await asyncio.wait(outcomes)
        for written, outcome in zip(writes, outcomes, strict=True):
            reason = "store_failed" if outcome.cancelled() else outcome.result()
            if reason is not None:
                failures.append(Failure(reason, written.target, "the list was not written"))
        return failures

    async def _project(
        self, event: WriteEvent, *, is_gone: bool, quiet: bool
    ) -> tuple[list[ProjectedWrite], list[Failure]]:
        writes: list[ProjectedWrite] = []
        failures: list[Failure] = []
        for projection in self._by_source[event.collection]:
            project = project_removal if is_gone else project_write
            try:
                written = await project(projection, event, limit_s=self._limit_s)
            except ProjectionFailure as failure:
                failures.append(Failure(failure.reason, failure.target, failure.detail))
                if not quiet:
                    await self._drops.report(
                        event,
                        failure.op,
                        failure.reason,
                        detail=failure.detail,
                        target=failure.target,
                        error=failure,
                    )
                continue
            if written is not None:
                writes.append(written)
        return writes, failures


def _store_key(event: WriteEvent) -> str | None:
    if event.document_key is None:
        return None
    folder = "" if event.namespace is None else f"{event.namespace}/"
    return folder + event.document_key

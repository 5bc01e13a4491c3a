"""The server plugin: from the ``after_write`` hook to the lists.

Rule: the server is not imported; a store and a plugin contract are all that is shared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import cast

from starfish_projection._catch_up import CatchUp
from starfish_projection._definition import Projection
from starfish_projection._drops import DropReason, Drops, FoldCounters, OnDrop, ProjectionStats
from starfish_projection._list_memory import ListMemory
from starfish_projection._projected_write import ProjectedWrite, ProjectionFailure, project_write
from starfish_projection._store import ListStore
from starfish_projection._target_writer import FoldOptions, TargetWriters
from starfish_protocol.clock import Clock, SystemClock
from starfish_protocol.plugins import ServerPlugin, WriteEvent

__all__ = ("PLUGIN_NAME", "ProjectionPlugin", "create_projection_server_plugin")

PLUGIN_NAME = "starfish-projection"


@dataclass(frozen=True, slots=True)
class ProjectionPlugin(ServerPlugin):
    """The plugin as a server takes it, and its numbers."""

    _counters: FoldCounters = field(default_factory=FoldCounters, repr=False)
    _memory: ListMemory | None = field(default=None, repr=False)

    def stats(self) -> ProjectionStats:
        """What the plugin has done since it was made; a snapshot."""
        memory = self._memory
        return self._counters.snapshot(
            remembered_lists=0 if memory is None else len(memory),
            remembered_bytes=0 if memory is None else memory.size_bytes,
        )


def create_projection_server_plugin(
    *,
    store: ListStore,
    projections: Sequence[Projection],
    max_retries: int = 8,
    max_items: int | None = None,
    on_drop: OnDrop | None = None,
    fold_timeout_ms: int = 30_000,
    max_remembered_lists: int = 256,
    max_remembered_bytes: int = 64 * 1024 * 1024,
    catch_up_every_ms: int = 60_000,
    clock: Clock | None = None,
) -> ProjectionPlugin:
    """Make the plugin that keeps the lists of these projections.

    A push returns after its operation is in the stored list, or was dropped and reported. Lists
    are written with the plugin's own authority, straight to ``store``.

    Where ``store`` keeps a change log, the plugin folds when it starts what nobody has folded
    yet: the writes of a process that ended between a write and its fold, and those before a
    projection existed. Later it looks again now and then, and folds what was dropped because a
    store failed or other writers were faster. Only ordinary documents can be read again.

    Args:
        store: where the lists are, usually the server's own store.
        projections: the views; one write may feed several.
        max_retries: compare-and-swaps that a fold may lose to other processes.
        max_items: entries of a list beyond which appends are dropped.
        on_drop: told of each operation that did not reach its list; may be async, may push again.
        fold_timeout_ms: longest time of one fold, retries included.
        max_remembered_lists: lists whose last version is kept in memory.
        max_remembered_bytes: about how much memory they may take together.
        catch_up_every_ms: time between two looks at the change log.
        clock: tells the time of a list's writing.

    Raises:
        ValueError: a number is out of range; the message says which and what is legal.
        TypeError: ``projections`` holds something else than `Projection`.

    Examples:
        >>> from starfish_projection import ProjectionSet
        >>> class NoStore: ...
        >>> titles = Projection("notes", "titles", lambda e: ProjectionSet(e.params["note"], {}))
        >>> plugin = create_projection_server_plugin(store=NoStore(), projections=[titles])
        >>> plugin.name, plugin.stats().operations
        ('starfish-projection', 0)
    """
    if max_remembered_lists < 0 or max_remembered_bytes < 0:
        raise ValueError(
            f"max_remembered_lists is {max_remembered_lists} and max_remembered_bytes is "
            f"{max_remembered_bytes}; legal are 0 or more"
        )
    if catch_up_every_ms < 1:
        raise ValueError(f"catch_up_every_ms is {catch_up_every_ms}; legal is 1 or more")
    counters = FoldCounters()
    drops = Drops(counters, on_drop)
    memory = ListMemory(max_lists=max_remembered_lists, max_bytes=max_remembered_bytes)
    writers = TargetWriters(
        store,
        options=FoldOptions(
            max_retries=max_retries, max_items=max_items, timeout_ms=fold_timeout_ms
        ),
        memory=memory,
        counters=counters,
        drops=drops,
        clock=SystemClock() if clock is None else clock,
    )
    follower = _Follower(projections, writers, drops)
    catch_up = CatchUp(store, projections, follower.fold, every_ms=catch_up_every_ms)

    async def shutdown() -> None:
        await writers.settle()
        await catch_up.stop()

    return ProjectionPlugin(
        PLUGIN_NAME,
        after_write=follower.after_write,
        startup=catch_up.start,
        shutdown=shutdown,
        _counters=counters,
        _memory=memory,
    )


class _Follower:
    """Takes the writes of source collections to the lists."""

    def __init__(
        self, projections: Sequence[Projection], writers: TargetWriters, drops: Drops
    ) -> None:
        self._writers = writers
        self._drops = drops
        self._by_source: dict[str, list[Projection]] = {}
        for projection in projections:
            if not isinstance(cast("object", projection), Projection):
                raise TypeError(
                    f"projections hold {projection!r}; legal are only Projection values"
                )
            for source in dict.fromkeys(projection.sources):
                self._by_source.setdefault(source, []).append(projection)

    async def after_write(self, event: WriteEvent) -> None:
        if event.collection in self._by_source:
            # In a task of its own: the document is stored, so its list must follow even when the
            # request is cancelled, and whoever is folded together with it must not notice.
            task = self._writers.start(self._follow(event))
            await asyncio.wait([task])
            task.result()

    async def _follow(self, event: WriteEvent) -> None:
        await self.fold(event)

    async def fold(self, event: WriteEvent) -> bool:
        """Take a write to its lists; ``False`` when that may succeed another time."""
        writes: list[ProjectedWrite] = []
        for projection in self._by_source[event.collection]:
            try:
                written = await project_write(projection, event)
            except ProjectionFailure as failure:
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
        outcomes = self._writers.submit(writes)
        if outcomes:
            await asyncio.wait(outcomes)
        return not any(each.cancelled() or each.result() in _TRANSIENT for each in outcomes)


_TRANSIENT: Collection[DropReason | None] = ("retries_exhausted", "store_failed")
"""Reasons that lie in the moment, not in the operation."""

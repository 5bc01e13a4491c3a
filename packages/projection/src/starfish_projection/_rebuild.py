"""Recreate lists from the documents they were made of.

Rule 1: a list is changed by operations only, through the same compare-and-swap as a push, so that
pushes may go on meanwhile. Rule 2: an entry is removed only when every source could be read and
none gives it; after removals the sources are read once more, and whatever came back is put back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from starfish_projection._definition import Projection, ProjectionRemove
from starfish_projection._drops import DropReason, Drops, FoldCounters
from starfish_projection._fold import ListOperation
from starfish_projection._list_document import ListDocument
from starfish_projection._list_memory import ListMemory
from starfish_projection._projected_write import ProjectedWrite, ProjectionFailure, project_write
from starfish_projection._sources import (
    RebuildConfig,
    SourceCollection,
    find_sources,
    read_sources,
)
from starfish_projection._store import ListStore
from starfish_projection._target_writer import FoldOptions, TargetWriters
from starfish_projection.errors import TargetNotAListError
from starfish_protocol.clock import Clock, SystemClock
from starfish_protocol.plugins import WriteEvent

__all__ = ("OnProgress", "RebuildProgress", "RebuildReport", "rebuild_projection")

_CHANGES_AT_ONCE = 1000
"""Changes of a list in one fold: each looks at its document again, all within one time-out."""
_PROJECT_S = 30.0
"""How long ``project`` may take for one document."""


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild is."""

    phase: Literal["documents", "lists"]
    """``documents`` while sources are read, ``lists`` while lists are written."""
    done: int
    """Documents or lists so far."""
    total: int
    """Documents or lists in this phase."""


OnProgress = Callable[[RebuildProgress], None]
"""Told of each document and each list."""


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild found and did."""

    documents: int
    """Source documents that were read."""
    unreadable: int
    """Of these, the ones that are not ordinary JSON documents; with any, nothing is removed."""
    lists: int
    """Lists that were looked at."""
    rewritten: int
    """List documents that were written; one with thousands of changes is written several times."""
    entries_set: int
    """Entries that were missing or wrong, and were written."""
    entries_removed: int
    """Entries that no source gives any more, and were taken out."""
    dropped: Mapping[DropReason, int]
    """Operations that did not reach their list, by reason."""
    incomplete: tuple[str, ...]
    """Lists that are not known to be right: one of their operations was dropped, or orphans may
    remain because a source could not be projected."""

    @property
    def complete(self) -> bool:
        """Whether every list is what its sources give."""
        return not self.dropped and not self.unreadable and not self.incomplete


async def rebuild_projection(
    *,
    store: ListStore,
    config: RebuildConfig,
    projections: Projection | Sequence[Projection],
    target_prefixes: Sequence[str] = (),
    max_retries: int = 8,
    max_items: int | None = None,
    pieces_above_bytes: int | None = 64 * 1024,
    on_progress: OnProgress | None = None,
    clock: Clock | None = None,
) -> RebuildReport:
    """Make every list of these projections what its source documents give.

    Entries that are right stay untouched and in their place; missing ones are appended in the
    order of their documents' times, then keys; wrong ones are replaced in place; those whose
    source is gone are removed. A list that is right is not written at all, so running it twice
    writes nothing the second time. Servers may go on taking pushes, in this process or others:
    every change is a compare-and-swap, and each operation is compared with its document again
    right before it.

    Args:
        store: where documents and lists are.
        config: says where the documents of a source collection are stored.
        projections: *all* projections that write these lists: what they do not give is removed.
        target_prefixes: beginnings of the keys of lists whose projections have a target
            *function*. Without them, a list that no document leads to any more keeps its entries.
        max_retries: compare-and-swaps that one list may lose to other writers.
        max_items: as in the plugin.
        pieces_above_bytes: as in the plugin.
        on_progress: told how far it is.
        clock: tells the time of a list's writing, and whether a document has expired.

    Raises:
        UnknownSourceError: a projection names a collection that ``config`` does not have, or a
            binary or append-only one.
    """
    chosen = (projections,) if isinstance(projections, Projection) else tuple(projections)
    time = SystemClock() if clock is None else clock
    names = {source for projection in chosen for source in projection.sources}
    run = _Rebuild(
        store=store,
        sources=find_sources(config, names),
        projections=chosen,
        options=FoldOptions(
            max_retries=max_retries, max_items=max_items, pieces_above_bytes=pieces_above_bytes
        ),
        on_progress=on_progress,
        clock=time,
    )
    return await run.run(target_prefixes)


@dataclass(slots=True)
class _Scan:
    """What the source documents give."""

    lists: dict[str, dict[str, ProjectedWrite]] = field(
        default_factory=dict[str, dict[str, ProjectedWrite]]
    )
    """By target and id, in the order in which the entries would have been appended."""
    documents: int = 0
    unreadable: int = 0
    failures: Counter[DropReason] = field(default_factory=Counter[DropReason])
    unsure: set[str] = field(default_factory=set[str])
    """Targets to which a document belongs that could not be projected."""
    all_unsure: bool = False
    """Whether a document could not even be given a target."""


class _Rebuild:
    def __init__(
        self,
        *,
        store: ListStore,
        sources: Sequence[SourceCollection],
        projections: Sequence[Projection],
        options: FoldOptions,
        on_progress: OnProgress | None,
        clock: Clock,
    ) -> None:
        self._store = store
        self._sources = sources
        self._projections = projections
        self._on_progress = on_progress
        self._clock = clock
        self._counters = FoldCounters()
        self._writers = TargetWriters(
            store,
            options=options,
            # Nothing is remembered: each list is visited once.
            memory=ListMemory(max_lists=0, max_bytes=0),
            counters=self._counters,
            drops=Drops(self._counters, None),
            clock=clock,
        )
        self._incomplete: set[str] = set()

    async def run(self, target_prefixes: Sequence[str]) -> RebuildReport:
        before = await self._ids_before(target_prefixes)
        scan = await self._scan()
        targets = sorted(before.keys() | scan.lists.keys())
        for done, target in enumerate(targets, 1):
            await self._align(target, scan, before.get(target))
            await self._writers.sweep(target)
            self._progress("lists", done, len(targets))
        if self._counters.entries_removed:
            # A push may have brought a source back after it was looked for.
            scan = await self._scan()
            for target in sorted(scan.lists):
                await self._align(target, scan, frozenset())
        return RebuildReport(
            documents=scan.documents,
            unreadable=scan.unreadable,
            lists=len(targets),
            rewritten=self._counters.writes,
            entries_set=self._counters.entries_put,
            entries_removed=self._counters.entries_removed,
            dropped=MappingProxyType(dict(self._counters.dropped + scan.failures)),
            incomplete=tuple(sorted(self._incomplete)),
        )

    async def _ids_before(self, target_prefixes: Sequence[str]) -> dict[str, frozenset[str]]:
        """Entries that are in the known lists before the first source is read.

        Pushes that come while the sources are read are not among them, and so never orphans.
        """
        targets = {p.target for p in self._projections if isinstance(p.target, str)}
        for prefix in target_prefixes:
            targets.update(await self._store.list_keys(prefix))
        before: dict[str, frozenset[str]] = {}
        for target in targets:
            try:
                document = await self._writers.read_list(target)
            except TargetNotAListError:
                continue
            before[target] = frozenset() if document is None else frozenset(document.ids())
        return before

    async def _scan(self) -> _Scan:
        scan = _Scan()
        given: list[ProjectedWrite] = []
        async for done, total, event in read_sources(self._store, self._sources, self._clock):
            scan.documents += 1
            if event is None:
                scan.unreadable += 1
                scan.all_unsure = True
            else:
                given.extend(await self._project(event, scan))
            self._progress("documents", done, total)
        given.sort(key=lambda write: (write.event.timestamp, write.event.document_key or ""))
        for write in given:
            entries = scan.lists.setdefault(write.target, {})
            if write.operation.fragment is None:
                entries.pop(write.operation.id, None)
            else:
                entries[write.operation.id] = write
        return scan

    async def _project(self, event: WriteEvent, scan: _Scan) -> Iterable[ProjectedWrite]:
        writes: list[ProjectedWrite] = []
        for projection in self._projections:
            if event.collection not in projection.sources:
                continue
            try:
                write = await project_write(projection, event, limit_s=_PROJECT_S)
            except ProjectionFailure as failure:
                scan.failures[failure.reason] += 1
                if failure.target is None:
                    scan.all_unsure = True
                else:
                    scan.unsure.add(failure.target)
                continue
            if write is not None:
                writes.append(write)
        return writes

    async def _align(self, target: str, scan: _Scan, before: frozenset[str] | None) -> None:
        try:
            document = await self._writers.read_list(target) or ListDocument()
        except TargetNotAListError:
            self._counters.dropped["target_not_a_list"] += 1
            self._incomplete.add(target)
            return
        wanted = scan.lists.get(target, {})
        changes = [
            write
            for entry_id, write in wanted.items()
            if document.fragment(entry_id) != write.operation.fragment
        ]
        orphans = [
            entry_id
            for entry_id in document.ids()
            if entry_id not in wanted and (before is None or entry_id in before)
        ]
        if scan.all_unsure or target in scan.unsure:
            if orphans or target in scan.unsure:
                self._incomplete.add(target)
            orphans = []
        changes.extend(self._removal(target, entry_id) for entry_id in orphans)
        for start in range(0, len(changes), _CHANGES_AT_ONCE):
            for outcome in self._writers.submit(changes[start : start + _CHANGES_AT_ONCE]):
                if await outcome is not None:
                    self._incomplete.add(target)

    def _removal(self, target: str, entry_id: str) -> ProjectedWrite:
        projection = self._projections[0]
        event = WriteEvent(projection.sources[0], hash="", timestamp=0, params={})
        return ProjectedWrite(
            projection, event, target, ProjectionRemove(entry_id), ListOperation(entry_id, None)
        )

    def _progress(self, phase: Literal["documents", "lists"], done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(RebuildProgress(phase, done, total))

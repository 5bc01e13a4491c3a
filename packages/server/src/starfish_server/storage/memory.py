"""A store that is gone with the process: for tests and demonstrations."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from typing_extensions import override

from starfish_protocol.clock import Clock, SystemClock
from starfish_server.storage._change_waiters import WaitersByLoop
from starfish_server.storage._checks import check_size
from starfish_server.storage._conditions import check_condition
from starfish_server.storage._positions import LogState, new_stamp
from starfish_server.storage._steps import check_steps
from starfish_server.storage.base import StoreContext
from starfish_server.storage.changes import Change, ChangeLog, ChangeRecord
from starfish_server.storage.keys import check_key, check_prefix, prefix_upper_bound
from starfish_server.storage.object_store import (
    Entry,
    ObjectStore,
    Step,
    Write,
)
from starfish_server.storage.values import (
    ANY,
    Metadata,
    Position,
    Precondition,
    Removed,
    Stored,
    Value,
    Written,
    check_limit,
    check_text,
)

__all__ = ("MemoryObjectStore",)


class MemoryObjectStore(ObjectStore):
    """Keys and values in a dictionary; shared by the tasks of one event loop, lost at exit.

    Args:
        data: texts to begin with; copied, so that two stores made from one dictionary are apart.
        clock: tells the time of a write, and whether a value has expired.

    Examples:
        >>> import asyncio
        >>> store = MemoryObjectStore({"notes/ada": "{}"})
        >>> asyncio.run(store.list_keys("notes/"))
        ['notes/ada']
    """

    can_apply = True

    def __init__(
        self, data: Mapping[str, str] | None = None, *, clock: Clock | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._revision = 0
        self._values: dict[str, Stored] = {}
        self._sorted_keys: list[str] = []
        self._expiring: list[tuple[int, str]] = []
        self._changes = _MemoryChangeLog()
        for key, body in (data or {}).items():
            self._set(check_key(key), Value(check_text(key, body).encode()), None)

    @property
    @override
    def is_shared(self) -> bool:
        """False: another process has values of its own."""
        return False

    @property
    @override
    def changes(self) -> ChangeLog:
        """As every store with a log; the log is gone with the process."""
        return self._changes

    # Every call does all of its work between two awaits, so nothing comes in between.

    def _live(self, key: str) -> Stored | None:
        found = self._values.get(key)
        if found is None or found.metadata.expires_at is None:
            return found
        return None if found.metadata.expires_at <= self._clock.now_ms() else found

    def _set(self, key: str, value: Value, change: ChangeRecord | None) -> Written:
        self._revision += 1  # never reset, so that no etag comes back
        old = self._values.get(key)
        if old is None:
            insort(self._sorted_keys, key)
        else:
            self._forget_expiry(key, old)
        last = self._changes.last_of(key)
        counted = old.metadata.generation if old else last.generation if last else 0
        metadata = Metadata(
            etag=str(self._revision),
            size=len(value.body),
            content_type=value.content_type,
            hash=value.hash,
            written_at=self._clock.now_ms() if value.written_at is None else value.written_at,
            expires_at=value.expires_at,
            write_id=value.write_id,
            generation=counted + 1,
        )
        self._values[key] = Stored(bytes(value.body), metadata)
        if value.expires_at is not None:
            insort(self._expiring, (value.expires_at, key))
        position = None
        if change is not None:
            position = self._changes.record(key, change, metadata.generation)
        return Written(metadata.etag, metadata.generation, position)

    def _drop(self, key: str, change: ChangeRecord | None) -> Position | None:
        old = self._values.pop(key)
        del self._sorted_keys[bisect_left(self._sorted_keys, key)]
        self._forget_expiry(key, old)
        if change is None:
            return None
        return self._changes.record(key, change, old.metadata.generation + 1, is_deleted=True)

    def _forget_expiry(self, key: str, old: Stored) -> None:
        if old.metadata.expires_at is not None:
            item = (old.metadata.expires_at, key)
            del self._expiring[bisect_left(self._expiring, item)]

    def _check(self, key: str, when: Precondition) -> None:
        found = self._live(check_key(key))
        check_condition(key, when, None if found is None else found.metadata)

    @override
    async def get(self, key: str, *, context: StoreContext | None = None) -> Stored | None:
        return self._live(check_key(key))

    @override
    async def scan(
        self,
        prefix: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> Sequence[Entry]:
        limit = check_limit(limit)
        keys = self._sorted_keys
        first = bisect_left(keys, check_prefix(prefix))
        if after is not None:
            first = max(first, bisect_right(keys, check_prefix(after)))
        bound = prefix_upper_bound(prefix)
        end = len(keys) if bound is None else bisect_left(keys, bound)
        entries: list[Entry] = []
        for index in range(first, end):
            if limit is not None and len(entries) >= limit:
                break
            found = self._live(keys[index])
            if found is not None:
                entries.append(Entry(keys[index], found.metadata))
        return entries

    @override
    async def write(
        self,
        key: str,
        value: Value,
        *,
        when: Precondition = ANY,
        change: ChangeRecord | None = None,
        context: StoreContext | None = None,
    ) -> Written:
        self._check(key, when)
        check_size(key, len(value.body), self.limits)
        written = self._set(key, value, change)
        self._changes.wake(written.position)
        return written

    @override
    async def remove(
        self,
        key: str,
        *,
        when: Precondition = ANY,
        change: ChangeRecord | None = None,
        context: StoreContext | None = None,
    ) -> Removed:
        self._check(key, when)
        removed = self._remove(key, change)
        self._changes.wake(removed.position)
        return removed

    def _remove(self, key: str, change: ChangeRecord | None) -> Removed:
        existed = self._live(key) is not None
        position = None
        if key in self._values:
            position = self._drop(key, change if existed else None)
        return Removed(existed, position)

    @override
    async def apply(
        self, steps: Sequence[Step], *, context: StoreContext | None = None
    ) -> Sequence[Written | Removed]:
        check_steps(steps, self.limits)
        for step in steps:
            self._check(step.key, step.when)
        done: list[Written | Removed] = [
            self._set(step.key, step.value, step.change)
            if isinstance(step, Write)
            else self._remove(step.key, step.change)
            for step in steps
        ]
        for each in done:
            self._changes.wake(each.position)
        return done

    @override
    async def ping(self) -> None:
        pass

    @override
    async def expire(self, now: int, *, limit: int = 1000) -> int:
        due = self._expiring[: bisect_right(self._expiring, (now, "\U0010ffff" * 2))][:limit]
        for expires_at, key in due:
            last = self._changes.last_of(key)
            change = None
            if last is not None and not last.is_deleted:
                change = ChangeRecord(
                    last.collection, last.params, "", expires_at, namespace=last.namespace
                )
            self._changes.wake(self._drop(key, change))
        return len(due)

    @override
    async def close(self) -> None:
        await self._changes.close()


@dataclass(slots=True)
class _Log:
    changes: list[Change] = field(default_factory=list[Change])
    sequence: int = 0
    floor: int = 0


class _MemoryChangeLog(ChangeLog):
    def __init__(self) -> None:
        self._log = _Log()
        self._newest: dict[str, Change] = {}
        self._epoch = new_stamp()
        self._starts = ((0, new_stamp()),)
        self._waiters = WaitersByLoop(self.last_sequence)

    def record(
        self, key: str, change: ChangeRecord, generation: int, *, is_deleted: bool = False
    ) -> Position:
        self._log.sequence += 1
        sequence = self._log.sequence
        position = self._now().at(sequence)
        recorded = Change(
            sequence=sequence,
            collection=change.collection,
            params=dict(change.params),
            key=key,
            generation=generation,
            hash="" if is_deleted else change.hash,
            timestamp=change.timestamp,
            namespace=change.namespace,
            identity=change.identity,
            position=position,
            is_deleted=is_deleted,
        )
        self._log.changes.append(recorded)
        self._newest[key] = recorded
        return position

    def wake(self, position: Position | None) -> None:
        if position is not None:
            self._waiters.wake()

    def last_of(self, key: str) -> Change | None:
        return self._newest.get(key)

    def _now(self) -> LogState:
        return LogState(self._epoch, self._starts, self._log.sequence, self._log.floor)

    @override
    async def _state(self) -> LogState:
        return self._now()

    @override
    async def _page(
        self, after: Position | int | None, limit: int, key: str | None
    ) -> tuple[LogState, int, Sequence[Change]]:
        state = self._now()
        start = after if isinstance(after, int) else state.after(after)
        changes = self._log.changes
        first = bisect_right(changes, start, key=lambda each: each.sequence)
        if key is None:
            return state, start, changes[first : first + limit]
        of_key = [each for each in changes[first:] if each.key == key]
        return state, start, of_key[:limit]

    @override
    async def _wait(self, after: int, timeout: float) -> None:
        await self._waiters.wait(after, timeout)

    @override
    async def generation(self, key: str) -> int:
        last = self._newest.get(key)
        return 0 if last is None else last.generation

    @override
    async def compact(self, *, tombstones_before: int, limit: int = 1000) -> int:
        log = self._log
        dropped: set[int] = set()
        for each in log.changes[:-1]:  # the newest tells where the log ends
            if len(dropped) >= limit:
                break
            if self._newest[each.key] is not each:
                dropped.add(each.sequence)
            elif each.is_deleted and each.timestamp < tombstones_before:
                dropped.add(each.sequence)
                log.floor = max(log.floor, each.sequence)
                del self._newest[each.key]
        log.changes = [each for each in log.changes if each.sequence not in dropped]
        return len(dropped)

    async def close(self) -> None:
        await self._waiters.close()

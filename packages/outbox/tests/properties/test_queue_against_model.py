"""The queue against a dictionary, with restarts, failing writes and overlapping calls."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from starfish_outbox import (
    OutboxEntry,
    OutboxPersistenceError,
    OutboxQueue,
    SqliteOutbox,
    reset_sending_to_queued,
)
from starfish_outbox.testing import MemoryCache

IDS = st.sampled_from(["a", "b", "c", "d"])
ITEMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


class FaultyCache(MemoryCache):
    """Refuses writes while it is broken, before or after it stored half the story."""

    broken = False

    async def set_item(self, key: str, value: str) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise OSError("no space left")
        await super().set_item(key, value)


class QueueAgainstModel(RuleBasedStateMachine):
    """What the rules do to the queue they do to a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model: dict[str, OutboxEntry] = {}
        self.clock = itertools.count(1)
        self.queue = self.run(self.open())

    def run(self, call):
        return self.runner.run(call)

    async def open(self) -> OutboxQueue:
        raise NotImplementedError

    async def shut(self) -> None:
        """Before a restart."""

    def set_broken(self, *, broken: bool) -> bool:
        """Whether the storage can be broken at all."""
        return False

    async def stored(self) -> list[OutboxEntry]:
        raise NotImplementedError

    @rule(entry_id=IDS, item=ITEMS)
    def enqueue(self, entry_id: str, item: object) -> None:
        ts = next(self.clock)
        self.run(self.queue.enqueue(entry_id, item, ts))
        self.model.setdefault(entry_id, OutboxEntry(entry_id, item, "queued", 0, ts))

    @rule(entry_id=IDS)
    def claim(self, entry_id: str) -> None:
        entry = self.model.get(entry_id)
        expected = entry is not None and entry.status == "queued"
        assert self.run(self.queue.claim(entry_id)) is expected
        if expected:
            self.model[entry_id] = replace(entry, status="sending")

    @rule(entry_id=IDS)
    def release(self, entry_id: str) -> None:
        self.run(self.queue.release(entry_id))
        if entry_id in self.model and self.model[entry_id].status == "sending":
            self.model[entry_id] = replace(self.model[entry_id], status="queued")

    @rule(entry_id=IDS)
    def remove(self, entry_id: str) -> None:
        self.run(self.queue.remove(entry_id))
        self.model.pop(entry_id, None)

    @rule(entry_id=IDS, most=st.integers(1, 3))
    def record_failure(self, entry_id: str, most: int) -> None:
        self.run(self.queue.record_failure(entry_id, most))
        if entry_id in self.model:
            attempts = self.model[entry_id].attempts + 1
            status = "failed" if attempts >= most else "queued"
            self.model[entry_id] = replace(self.model[entry_id], attempts=attempts, status=status)

    @rule(entry_id=IDS)
    def mark_failed(self, entry_id: str) -> None:
        self.run(self.queue.mark_failed(entry_id))
        if entry_id in self.model:
            entry = self.model[entry_id]
            self.model[entry_id] = replace(entry, attempts=entry.attempts + 1, status="failed")

    @rule(entry_id=IDS)
    def retry(self, entry_id: str) -> None:
        self.run(self.queue.retry(entry_id))
        if entry_id in self.model and self.model[entry_id].status == "failed":
            self.model[entry_id] = replace(self.model[entry_id], status="queued")

    @rule(count=st.integers(2, 6), entry_id=IDS)
    def overlapping(self, count: int, entry_id: str) -> None:
        async def all_at_once() -> list[bool]:
            ids = [f"{entry_id}{n}" for n in range(count)]
            await asyncio.gather(*(self.queue.enqueue(i, i, 0) for i in ids))
            won = await asyncio.gather(*(self.queue.claim(ids[0]) for _ in range(3)))
            await asyncio.gather(*(self.queue.remove(i) for i in ids))
            return won

        assert sum(self.run(all_at_once())) == 1

    @rule()
    def restart(self) -> None:
        async def again() -> OutboxQueue:
            await self.shut()
            return await self.open()

        self.queue = self.run(again())
        self.model = {e.id: e for e in reset_sending_to_queued(self.model.values())}

    @rule(entry_id=IDS, call=st.sampled_from(["enqueue", "claim", "remove", "mark_failed"]))
    def while_broken(self, entry_id: str, call: str) -> None:
        if not self.set_broken(broken=True):
            return
        arguments = (entry_id, 1) if call == "enqueue" else (entry_id,)
        try:
            self.run(getattr(self.queue, call)(*arguments))
        except OutboxPersistenceError:
            pass
        else:
            entry = self.model.get(entry_id)
            nothing_to_do = entry is not None if call == "enqueue" else entry is None
            assert nothing_to_do or (call == "claim" and entry.status != "queued")
        finally:
            self.set_broken(broken=False)

    @invariant()
    def memory_is_the_model(self) -> None:
        assert self.queue.get() == list(self.model.values())

    @invariant()
    def storage_is_the_model(self) -> None:
        stored = self.run(self.stored())
        assert reset_sending_to_queued(stored) == reset_sending_to_queued(self.model.values())

    def teardown(self) -> None:
        self.run(self.shut())
        self.runner.close()


class CacheAgainstModel(QueueAgainstModel):
    async def open(self) -> OutboxQueue:
        self.cache = getattr(self, "cache", None) or FaultyCache()
        queue = OutboxQueue(self.cache)
        await queue.hydrate("k")
        return queue

    def set_broken(self, *, broken: bool) -> bool:
        self.cache.broken = broken
        return True

    async def stored(self) -> list[OutboxEntry]:
        values = json.loads(self.cache.values.get("k", "[]"))
        return [
            OutboxEntry(v["id"], v["item"], v["status"], v["attempts"], v["enqueuedAt"])
            for v in values
        ]


class SqliteAgainstModel(QueueAgainstModel):
    async def open(self) -> OutboxQueue:
        if not hasattr(self, "folder"):
            self.folder = tempfile.TemporaryDirectory()
        self.outbox = SqliteOutbox(Path(self.folder.name) / "o.sqlite")
        queue = OutboxQueue(self.outbox)
        await queue.hydrate("k")
        return queue

    async def shut(self) -> None:
        await self.outbox.close()

    def set_broken(self, *, broken: bool) -> bool:
        connection = self.outbox._thread.engine.connection
        connection.execute(f"PRAGMA query_only={'ON' if broken else 'OFF'}")
        return True

    async def stored(self) -> list[OutboxEntry]:
        connection = self.outbox._thread.engine.connection
        rows = connection.execute(
            "SELECT id, item, coalesce(status, 'queued'), coalesce(attempts, 0), enqueued_at"
            " FROM starfish_outbox_entries LEFT JOIN starfish_outbox_states USING (seq)"
            " WHERE item IS NOT NULL ORDER BY seq"
        ).fetchall()
        return [OutboxEntry(r[0], json.loads(r[1]), *r[2:]) for r in rows]

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestCacheAgainstModel = CacheAgainstModel.TestCase
TestSqliteAgainstModel = SqliteAgainstModel.TestCase
TestSqliteAgainstModel.settings = settings(max_examples=25, stateful_step_count=30)

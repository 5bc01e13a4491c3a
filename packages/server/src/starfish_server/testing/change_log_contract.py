# ruff: noqa: D102  the name of a test is its sentence
"""What the change log of every store must keep to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from starfish_protocol.clock import SystemClock
from starfish_protocol.events import SubscriptionClosed
from starfish_server.storage.changes import Change, ChangeLog, ChangeRecord, ChangeSource
from starfish_server.storage.errors import (
    InvalidPositionError,
    PositionLostError,
    PreconditionFailedError,
)
from starfish_server.storage.object_store import Delete, ObjectStore, Write
from starfish_server.storage.values import ABSENT, Position, Value

__all__ = ("ChangeLogContract",)


def _record(number: int, *, timestamp: int | None = None) -> ChangeRecord:
    return ChangeRecord(
        collection="notes",
        params={"note": str(number)},
        hash=f"h{number}",
        timestamp=number if timestamp is None else timestamp,
        namespace="team",
        identity="ada",
    )


def _log(store: ObjectStore) -> ChangeLog:
    assert store.changes is not None
    return store.changes


async def _all(log: ChangeLog, after: Position | None = None, size: int = 100) -> list[Change]:
    found: list[Change] = []
    while True:
        page = await log.read(after, size)
        found += page.changes
        after = page.next
        if page.is_end:
            return found


@pytest.mark.asyncio
class ChangeLogContract:
    """Tests of the log of one store; supply the fixture ``store``, new and empty for each test."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        """The store under test, new and empty; the fixture closes it."""
        raise NotImplementedError("a subclass of ChangeLogContract supplies the fixture `store`")

    async def test_an_empty_log_has_an_end(self, store: ObjectStore) -> None:
        log = _log(store)
        page = await log.read(None, 10)

        assert list(page.changes) == []
        assert page.is_end
        assert page.next == await log.end()
        assert list((await log.read(page.next, 10)).changes) == []
        assert not await log.wait(page.next, 0)
        assert await log.generation("a") == 0

    async def test_a_change_tells_what_was_written(self, store: ObjectStore) -> None:
        written = await store.write("team/notes/1", Value(b"a"), change=_record(1))
        await store.write("team/notes/2", Value(b"b"), change=_record(2))
        await store.write("team/notes/1", Value(b"c" * 400_000), change=_record(3))

        log = _log(store)
        page = await log.read(None, 10)
        first, second, third = page.changes
        assert first == Change(
            first.sequence,
            "notes",
            {"note": "1"},
            "team/notes/1",
            1,
            "h1",
            1,
            "team",
            "ada",
            first.position,
        )
        assert (second.key, second.generation, second.hash) == ("team/notes/2", 1, "h2")
        assert (third.key, third.generation, third.hash) == ("team/notes/1", 2, "h3")
        assert written.position == first.position
        assert page.next == third.position == await log.end()
        assert page.is_end
        assert await log.generation("team/notes/1") == 2
        of_key = await log.read(None, 10, key="team/notes/1")
        assert list(of_key.changes) == [first, third]
        assert list((await log.read(first.position, 1)).changes) == [second]

    async def test_what_is_written_without_a_record_is_no_change(self, store: ObjectStore) -> None:
        await store.write("a", Value(b"1"))
        await store.remove("a")
        await store.write("b", Value(b"1"))
        with pytest.raises(PreconditionFailedError):
            await store.write("b", Value(b"2"), when=ABSENT, change=_record(1))
        await store.remove("none", change=_record(2))

        assert await _all(_log(store)) == []

    async def test_a_delete_leaves_a_tombstone(self, store: ObjectStore) -> None:
        await store.write("a", Value(b"1"), change=_record(1))
        removed = await store.remove("a", change=_record(2))
        await store.write("a", Value(b"1"), change=_record(3))

        changes = await _all(_log(store))
        assert [(each.is_deleted, each.hash, each.generation) for each in changes] == [
            (False, "h1", 1),
            (True, "", 2),
            (False, "h3", 3),
        ]
        assert removed.position == changes[1].position

    async def test_expiry_leaves_a_tombstone(self, store: ObjectStore) -> None:
        now = SystemClock().now_ms()
        await store.write("a", Value(b"1", expires_at=now - 5), change=_record(1))
        await store.write("silent", Value(b"1", expires_at=now - 5))
        await store.expire(now)
        await store.expire(now)

        written, gone = await _all(_log(store))
        assert (gone.key, gone.is_deleted, gone.generation) == ("a", True, 2)
        assert (gone.collection, gone.params, gone.namespace) == (
            written.collection,
            written.params,
            written.namespace,
        )

    async def test_steps_are_changes_in_their_order(self, store: ObjectStore) -> None:
        if not store.can_apply:
            pytest.skip("this store does one key at a time")
        await store.write("b", Value(b"1"))
        await store.apply(
            [
                Write("a", Value(b"1"), change=_record(1)),
                Delete("b", change=_record(2)),
                Write("c", Value(b"1")),
                Write("d", Value(b"1"), change=_record(3)),
            ]
        )
        with pytest.raises(PreconditionFailedError):
            await store.apply(
                [
                    Write("e", Value(b"1"), change=_record(4)),
                    Write("a", Value(b"1"), when=ABSENT, change=_record(5)),
                ]
            )

        changes = await _all(_log(store))
        assert [(each.key, each.is_deleted) for each in changes] == [
            ("a", False),
            ("b", True),
            ("d", False),
        ]

    async def test_a_streamed_write_records_the_hash_and_the_size(self, store: ObjectStore) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"12"
            yield b"3"

        def record(digest: str, size: int) -> ChangeRecord:
            return ChangeRecord("blobs", {"size": str(size)}, digest, 1)

        _, metadata = await store.write_stream("a", pieces(), Value(b""), change=record)

        (change,) = await _all(_log(store))
        assert (change.hash, change.params) == (metadata.hash, {"size": "3"})

    # Order.

    async def test_a_reader_misses_no_concurrent_write_and_sees_none_twice(
        self, store: ObjectStore
    ) -> None:
        log = _log(store)
        seen: list[str] = []

        async def write(first: int) -> None:
            for number in range(first, 200, 8):
                await store.write(f"k/{number}", Value(b"x"), change=_record(number))

        async def follow() -> None:
            position: Position | None = None
            while len(seen) < 200:
                page = await log.read(position, 7)
                seen.extend(change.key for change in page.changes)
                position = page.next
                if not page.changes:
                    await log.wait(position, 10)

        async with asyncio.timeout(50):
            await asyncio.gather(follow(), *(write(first) for first in range(8)))

        assert sorted(seen) == sorted(f"k/{number}" for number in range(200))
        changes = await _all(log, size=13)
        assert [change.key for change in changes] == seen
        sequences = [change.sequence for change in changes]
        assert sequences == sorted(set(sequences))
        for index in (0, 50, 199):
            rest = await _all(log, changes[index].position)
            assert [change.key for change in rest] == seen[index + 1 :]

    async def test_a_value_is_there_when_its_change_is(self, store: ObjectStore) -> None:
        log = _log(store)
        written = 0

        async def write() -> None:
            nonlocal written
            for number in range(60):
                await store.write("a", Value(b"%d" % number), change=_record(number))
                written = number

        writing = asyncio.create_task(write())
        position: Position | None = None
        while not writing.done():
            acknowledged = written
            page = await log.read(position, 100)
            position = page.next
            found = await store.get("a")
            for change in page.changes:
                assert found is not None
                assert int(found.body) >= int(change.hash[1:])
            everything = await _all(log)
            if acknowledged:
                assert int(everything[-1].hash[1:]) >= acknowledged
            await asyncio.sleep(0)
        await writing

    async def test_a_waiter_is_woken_by_the_next_change(self, store: ObjectStore) -> None:
        log = _log(store)
        end = await log.end()
        waiters = [asyncio.create_task(log.wait(end, 30)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(waiter.done() for waiter in waiters)
        await store.write("a", Value(b"1"), change=_record(1))

        async with asyncio.timeout(10):
            assert await asyncio.gather(*waiters) == [True] * 3
        assert await log.wait(end, 30)
        assert not await log.wait(await log.end(), 0.01)

    # Positions.

    @pytest.mark.parametrize(
        "text", ["", "x", "0", "-1", "a-b", "a-b-c", "a-b--1", "é-b-1", "1-1-01"]
    )
    async def test_a_text_that_is_not_a_position_is_refused(
        self, store: ObjectStore, text: str
    ) -> None:
        with pytest.raises(InvalidPositionError):
            await _log(store).read(text, 1)
        with pytest.raises(InvalidPositionError):
            await _log(store).wait(text, 0)

    async def test_a_position_of_another_log_is_lost(self, store: ObjectStore) -> None:
        log = _log(store)
        await store.write("a", Value(b"1"), change=_record(1))
        epoch, label, sequence = (await log.end()).split("-")

        for lost in (f"0{epoch}-{label}-{sequence}", f"{epoch}-{label}-{int(sequence) + 1}"):
            with pytest.raises(PositionLostError) as caught:
                await log.read(lost, 1)
            assert caught.value.position == lost
            with pytest.raises(PositionLostError):
                await log.wait(lost, 0)
        with pytest.raises(PositionLostError):
            await log.read(f"{epoch}-{label[::-1]}0-{sequence}", 1)

    # Compaction.

    async def test_compaction_leaves_the_newest_change_of_each_key(
        self, store: ObjectStore
    ) -> None:
        log = _log(store)
        for number in range(12):
            await store.write(f"k/{number % 3}", Value(b"x"), change=_record(number))
        early = (await _all(log))[1].position

        steps: list[int] = []
        while not steps or steps[-1] == 4:
            steps.append(await log.compact(tombstones_before=0, limit=4))
        assert sum(steps) == 9

        changes = await _all(log)
        assert [(each.key, each.generation) for each in changes] == [
            ("k/0", 4),
            ("k/1", 4),
            ("k/2", 4),
        ]
        assert [each.key for each in await _all(log, early)] == ["k/0", "k/1", "k/2"]
        await store.write("k/0", Value(b"x"), change=_record(12))
        assert await log.generation("k/0") == 5

    async def test_a_reader_before_a_tombstone_that_is_gone_is_told(
        self, store: ObjectStore
    ) -> None:
        log = _log(store)
        await store.write("a", Value(b"x"), change=_record(1))
        await store.write("b", Value(b"x"), change=_record(2))
        before = await log.end()
        await store.remove("a", change=_record(3, timestamp=1000))
        after = await log.end()
        await store.write("c", Value(b"x"), change=_record(4))

        assert await log.compact(tombstones_before=1000) == 1
        assert [each.key for each in await _all(log, before)] == ["a", "c"]
        assert await log.compact(tombstones_before=1001) == 1
        with pytest.raises(PositionLostError):
            await log.read(before, 10)
        assert [each.key for each in await _all(log, after)] == ["c"]
        assert [each.key for each in await _all(log)] == ["b", "c"]

    async def test_compaction_does_not_move_the_end(self, store: ObjectStore) -> None:
        log = _log(store)
        await store.write("a", Value(b"x"), change=_record(1))
        await store.remove("a", change=_record(2))
        end = await log.end()
        while await log.compact(tombstones_before=10**15):
            pass

        assert await log.end() == end
        written = await store.write("a", Value(b"x"), change=_record(3))
        assert [each.position for each in await _all(log, end)] == [written.position]

    # As a source of events.

    async def test_a_source_keeps_the_promises_of_event_sources(self, store: ObjectStore) -> None:
        source = ChangeSource(_log(store))
        everything = await source.subscribe()
        only_a = await source.subscribe(entity="a", capacity=1)
        for number, key in enumerate("aba", 1):
            await store.write(key, Value(b"x"), change=_record(number))

        events = await source.read(0, 10)
        assert [(event.entity, event.kind) for event in events] == [
            ("a", "notes"),
            ("b", "notes"),
            ("a", "notes"),
        ]
        assert await source.last_sequence() == events[-1].sequence
        assert [await source.generation(entity) for entity in ("a", "b", "c")] == [2, 1, 0]
        assert await everything.pull_batch(2, 5) == events[:2]
        assert await everything.pull_batch(2, 5) == events[2:]
        assert await only_a.pull_batch(9, 5) == [events[0], events[2]]
        assert await only_a.pull_batch(9, 0.01) == []
        everything.close()
        with pytest.raises(SubscriptionClosed):
            await everything.pull_batch(9, None)

"""Writers that meet, and answers that are lost: a part of `ObjectStoreContract`."""

from __future__ import annotations

import asyncio

import pytest

from starfish_server.storage.errors import NotSupportedError, PreconditionFailedError
from starfish_server.storage.object_store import Delete, ObjectStore, Step, Write, write_once
from starfish_server.storage.values import ABSENT, Match, Value

__all__ = ("RaceContract",)


@pytest.mark.asyncio
class RaceContract:
    """Races, lost answers and several keys in one step."""

    # Unknown outcomes.

    async def test_a_write_that_is_repeated_knows_itself(self, store: ObjectStore) -> None:
        value = Value(b"1")
        first = await write_once(store, "a", value, when=ABSENT)
        again = await write_once(store, "a", value, when=ABSENT)
        assert again.etag == first.etag

        next_ = Value(b"2")
        second = await write_once(store, "a", next_, when=Match(first.etag))
        assert (await write_once(store, "a", next_, when=Match(first.etag))).etag == second.etag
        with pytest.raises(PreconditionFailedError):
            await write_once(store, "a", value, when=ABSENT)
        with pytest.raises(PreconditionFailedError):
            await write_once(store, "a", Value(b"2"), when=Match(first.etag))

    # Races.

    async def test_of_32_creators_one_wins(self, store: ObjectStore) -> None:
        results = await asyncio.gather(
            *(store.write("a", Value(b"by %d" % n), when=ABSENT) for n in range(32)),
            return_exceptions=True,
        )

        (winner,) = [n for n, result in enumerate(results) if not isinstance(result, Exception)]
        assert all(
            isinstance(result, PreconditionFailedError)
            for n, result in enumerate(results)
            if n != winner
        )
        found = await store.get("a")
        assert found is not None
        assert found.body == b"by %d" % winner

    async def test_increments_of_many_tasks_are_all_counted(self, store: ObjectStore) -> None:
        async def increment(times: int) -> None:
            for _ in range(times):
                while True:
                    found = await store.get("counter")
                    number = 0 if found is None else int(found.body)
                    when = ABSENT if found is None else Match(found.metadata.etag)
                    try:
                        await write_once(store, "counter", Value(b"%d" % (number + 1)), when=when)
                    except PreconditionFailedError:
                        continue
                    break

        await asyncio.gather(*(increment(5) for _ in range(8)))

        found = await store.get("counter")
        assert found is not None
        assert found.body == b"40"

    async def test_a_reader_sees_one_version_or_the_other(self, store: ObjectStore) -> None:
        bodies = [letter * length for letter in (b"a", b"b") for length in (1, 50_000, 600_000)]
        await store.write("a", Value(bodies[0], hash="0"))

        async def write() -> None:
            for _ in range(3):
                for number, body in enumerate(bodies):
                    await store.write("a", Value(body, hash=str(number)))

        writing = asyncio.create_task(write())
        while not writing.done():
            whole, part = await asyncio.gather(store.get("a"), store.read_range("a", 0, 9))
            assert whole is not None
            assert part is not None
            assert whole.body == bodies[int(whole.metadata.hash or "0")]
            assert part.body == bodies[int(part.metadata.hash or "0")][:10]
            await asyncio.sleep(0)
        await writing

    async def test_a_cancelled_write_happened_or_not_and_the_store_goes_on(
        self, store: ObjectStore
    ) -> None:
        bodies = [b"%d " % number * 2000 for number in range(40)]
        for number, body in enumerate(bodies):
            writing = asyncio.create_task(store.write("a", Value(body)))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

            await store.write("b", Value(str(number).encode()))
            found = await store.get("b")
            assert found is not None
            assert found.body == str(number).encode()
        await store.close()  # a cancelled write may still happen until then
        last = await store.get("a")
        assert last is None or last.body in bodies

    # Several keys in one step.

    async def test_steps_happen_together_or_not_at_all(self, store: ObjectStore) -> None:
        a = await store.write("a", Value(b"1"))
        await store.write("b", Value(b"1"))
        steps: list[Step] = [
            Write("a", Value(b"2"), when=Match(a.etag)),
            Delete("b"),
            Write("c", Value(b"2"), when=ABSENT),
        ]
        if not store.can_apply:
            with pytest.raises(NotSupportedError):
                await store.apply(steps)
            return
        with pytest.raises(ValueError, match="two steps name the key"):
            await store.apply([Write("a", Value(b"2")), Delete("a")])
        with pytest.raises(PreconditionFailedError) as caught:
            await store.apply([*steps, Write("d", Value(b""), when=Match("none"))])
        assert caught.value.key == "d"
        unchanged = await store.get_many(["a", "b", "c"])
        assert {key: value.body for key, value in unchanged.items()} == {"a": b"1", "b": b"1"}

        await store.apply(steps)
        found = await store.get_many(["a", "b", "c", "d"])
        assert {key: value.body for key, value in found.items()} == {"a": b"2", "c": b"2"}
        assert list(await store.apply([])) == []

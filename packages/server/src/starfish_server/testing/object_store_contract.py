# ruff: noqa: D102  the name of a test is its sentence
"""What every store of the second contract must keep to, as tests that anyone can run on their own.

A subclass named ``Test…`` supplies the fixture ``store`` and inherits the rest; needs pytest and
pytest-asyncio. Rule: no test here may know which store it has.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from starfish_protocol.clock import SystemClock
from starfish_server.errors import InvalidKeyError, StoreError
from starfish_server.storage.base import StoreContext
from starfish_server.storage.errors import NotSupportedError, PreconditionFailedError
from starfish_server.storage.object_store import Delete, ObjectStore, Step, Write, write_once
from starfish_server.storage.values import ABSENT, ANY, Match, Metadata, Value
from starfish_server.testing.store_contract import LEGAL_KEYS, REFUSED_KEYS

__all__ = ("ObjectStoreContract",)

_LARGE = 3 * 2**20 + 17
"""Above every bound at which a store keeps values in another way."""


def _large_body() -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in range(_LARGE // 4 + 1))[:_LARGE]


def _now() -> int:
    return SystemClock().now_ms()


async def _pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.asyncio
class ObjectStoreContract:
    """Tests of one store; supply the fixture ``store``, new and empty for each test."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        """The store under test, new and empty; the fixture closes it."""
        raise NotImplementedError("a subclass of ObjectStoreContract supplies the fixture `store`")

    # Values.

    async def test_a_key_never_written_has_no_value(self, store: ObjectStore) -> None:
        assert await store.get("a") is None
        assert await store.stat("a") is None
        assert await store.read_range("a", 0, 9) is None
        assert await store.get_many(["a", "b"]) == {}
        assert list(await store.scan("")) == []

    async def test_a_value_comes_back_with_all_that_was_kept_beside_it(
        self, store: ObjectStore
    ) -> None:
        later = _now() + 3_600_000
        value = Value(b"\x00\xff\r\n", "image/png; x=1", "ab" * 32, 1_700_000_000_123, later)

        written = await store.write("a", value)
        found = await store.get("a")

        assert found is not None
        assert found.body == value.body
        assert found.metadata == Metadata(
            etag=written.etag,
            size=4,
            content_type="image/png; x=1",
            hash="ab" * 32,
            written_at=1_700_000_000_123,
            expires_at=later,
            write_id=value.write_id,
            generation=written.generation,
        )
        assert await store.stat("a") == found.metadata
        (entry,) = await store.scan("")
        assert (entry.key, entry.metadata) == ("a", found.metadata)

    async def test_a_value_without_a_time_gets_the_time_of_its_write(
        self, store: ObjectStore
    ) -> None:
        before = _now()
        await store.write("a", Value(b"1"))

        metadata = await store.stat("a")
        assert metadata is not None
        assert metadata.hash is None
        assert metadata.expires_at is None
        assert before <= metadata.written_at <= _now()

    @pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, _LARGE])
    async def test_a_body_of_any_length_comes_back(self, store: ObjectStore, size: int) -> None:
        body = _large_body()[:size]
        await store.write("a", Value(body, "a/b"))
        await store.write("after", Value(b"x"))

        found = await store.get("a")
        assert found is not None
        assert found.body == body
        assert found.metadata.size == size

    async def test_a_part_of_a_value_is_read_with_the_metadata_of_the_whole(
        self, store: ObjectStore
    ) -> None:
        body = _large_body()
        for key, whole in (("large", body), ("small", body[:1000])):
            await store.write(key, Value(whole, "a/b"))
            metadata = await store.stat(key)
            end = len(whole)
            for first, last in (
                (0, 0),
                (5, 5),
                (3, 700),
                (262_143, 262_144),
                (end - 1, end - 1),
                (end - 1, None),
                (0, None),
                (0, end + 5),
                (end, end + 5),
                (end + 5, None),
                (7, 6),
            ):
                part = await store.read_range(key, first, last)
                assert part is not None
                assert part.body == whole[first : None if last is None else last + 1]
                assert part.metadata == metadata
        for first, last in ((-1, 5), (0, -1)):
            with pytest.raises(ValueError, match="negative"):
                await store.read_range("large", first, last)

    async def test_several_values_come_in_one_call(self, store: ObjectStore) -> None:
        await asyncio.gather(
            *(store.write(f"k/{number}", Value(b"%d" % number)) for number in range(50))
        )
        await store.write("large", Value(_large_body()))

        found = await store.get_many(["k/7", "none", "k/49", "large", "k/7"])
        assert {key: value.body for key, value in found.items()} == {
            "k/7": b"7",
            "k/49": b"49",
            "large": _large_body(),
        }
        assert await store.get_many([]) == {}

    @pytest.mark.parametrize("size", [0, 1, 262_144, 1_048_576, _LARGE])
    async def test_a_body_that_comes_in_pieces_is_one_value(
        self, store: ObjectStore, size: int
    ) -> None:
        body = _large_body()[:size]
        written, metadata = await store.write_stream(
            "a", _pieces(body, 100_000), Value(b"ignored", "image/png", written_at=5)
        )

        found = await store.get("a")
        assert found is not None
        assert found.body == body
        assert found.metadata == metadata
        assert metadata.etag == written.etag
        assert metadata.size == size
        assert metadata.hash == hashlib.sha256(body).hexdigest()
        assert (metadata.content_type, metadata.written_at) == ("image/png", 5)

    async def test_pieces_that_end_in_an_error_leave_the_old_value(
        self, store: ObjectStore
    ) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield _large_body()
            raise LookupError("the client went away")

        await store.write("a", Value(b"old"))
        with pytest.raises(LookupError):
            await store.write_stream("a", broken(), Value(b""))
        with pytest.raises(PreconditionFailedError):
            await store.write_stream(
                "a", _pieces(_large_body(), 1_000_000), Value(b""), when=ABSENT
            )

        found = await store.get("a")
        assert found is not None
        assert found.body == b"old"
        assert [entry.key for entry in await store.scan("")] == ["a"]

    async def test_the_last_write_wins_whatever_its_length(self, store: ObjectStore) -> None:
        for body in (b"one", _large_body(), b"two", _large_body()[:300_000], b""):
            await store.write("a", Value(body))
            found = await store.get("a")
            assert found is not None
            assert found.body == body

    async def test_the_body_is_copied(self, store: ObjectStore) -> None:
        body = bytearray(b"before")
        writing = asyncio.ensure_future(store.write("a", Value(body)))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        body[:] = b"after!"
        await writing

        found = await store.get("a")
        assert found is not None
        assert found.body == b"before"

    # Keys.

    async def test_every_legal_key_has_a_value_of_its_own(self, store: ObjectStore) -> None:
        for number, key in enumerate(LEGAL_KEYS):
            await store.write(key, Value(b"text %d" % number), when=ABSENT)

        assert [entry.key for entry in await store.scan("")] == sorted(LEGAL_KEYS)
        found = await store.get_many(LEGAL_KEYS)
        assert {key: value.body for key, value in found.items()} == {
            key: b"text %d" % number for number, key in enumerate(LEGAL_KEYS)
        }

    @pytest.mark.parametrize("key", REFUSED_KEYS)
    async def test_an_illegal_key_is_refused_by_every_call(
        self, store: ObjectStore, key: str
    ) -> None:
        await store.write("kept", Value(b"1"))

        for call in (
            store.get(key),
            store.get_many(["kept", key]),
            store.stat(key),
            store.read_range(key, 0, 1),
            store.write(key, Value(b"x")),
            store.write_stream(key, _pieces(b"x", 1), Value(b"")),
            store.remove(key),
        ):
            with pytest.raises(InvalidKeyError) as caught:
                await call
            assert caught.value.key == key
        assert [entry.key for entry in await store.scan("")] == ["kept"]

    # Conditions.

    async def test_a_write_happens_when_its_condition_holds(self, store: ObjectStore) -> None:
        first = await store.write("a", Value(b"1"), when=ABSENT)
        second = await store.write("a", Value(b"2"), when=Match(first.etag))
        third = await store.write("a", Value(b"3"), when=ANY)

        assert len({first.etag, second.etag, third.etag}) == 3
        found = await store.get("a")
        assert found is not None
        assert (found.body, found.metadata.etag) == (b"3", third.etag)

    @pytest.mark.parametrize("stale", ["", "0", "x", "\x00", "é", '"quoted"', "*", "9" * 400])
    async def test_a_condition_that_does_not_hold_changes_nothing(
        self, store: ObjectStore, stale: str
    ) -> None:
        await store.write("a", Value(b"1"))
        current = await store.stat("a")

        for when in (ABSENT, Match(stale)):
            for call in (store.write("a", Value(b"2"), when=when), store.remove("a", when=when)):
                with pytest.raises(PreconditionFailedError) as caught:
                    await call
                assert (caught.value.key, caught.value.current) == ("a", current)
        for call in (
            store.write("absent", Value(b"2"), when=Match(stale)),
            store.remove("absent", when=Match(stale)),
        ):
            with pytest.raises(PreconditionFailedError) as caught:
                await call
            assert caught.value.current is None
        assert await store.stat("a") == current
        assert await store.stat("absent") is None

    async def test_equal_etags_mean_equal_bytes(self, store: ObjectStore) -> None:
        seen: dict[str, bytes] = {}
        for body in (b"A", b"B", b"A", b"", b"B", b"A"):
            written = await store.write("a", Value(body))
            assert seen.setdefault(written.etag, body) == body
            if body == b"B":
                await store.remove("a")

    async def test_a_remove_that_is_conditional_takes_that_version(
        self, store: ObjectStore
    ) -> None:
        first = await store.write("a", Value(b"1"))
        second = await store.write("a", Value(b"2"))
        with pytest.raises(PreconditionFailedError):
            await store.remove("a", when=Match(first.etag))

        assert (await store.remove("a", when=Match(second.etag))).existed
        assert await store.get("a") is None
        assert not (await store.remove("a")).existed

    async def test_a_key_with_large_values_can_be_removed_and_written_again(
        self, store: ObjectStore
    ) -> None:
        for _ in range(3):
            await store.write("a/b", Value(_large_body()), when=ABSENT)
            await store.remove("a/b")
            assert await store.get("a/b") is None
            assert list(await store.scan("")) == []

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

    # Listing.

    async def test_pages_together_are_the_whole_listing(self, store: ObjectStore) -> None:
        keys = sorted(f"{folder}/{name}" for folder in "abc" for name in ("x", "x/y", "x-", "z"))
        await asyncio.gather(*(store.write(key, Value(b"x")) for key in keys))

        for size in (1, 2, 5, 100):
            for prefix in ("", "b", "b/x", "b/x/"):
                pages: list[str] = []
                after: str | None = None
                while page := await store.scan(prefix, after=after, limit=size):
                    assert len(page) <= size
                    pages += [entry.key for entry in page]
                    after = page[-1].key
                assert pages == [key for key in keys if key.startswith(prefix)]

    async def test_a_limit_is_at_least_zero(self, store: ObjectStore) -> None:
        await store.write("a", Value(b"x"))

        assert list(await store.scan("", limit=0)) == []
        assert len(await store.scan("", limit=10**30)) == 1
        with pytest.raises(ValueError, match="limit is -1"):
            await store.scan("", limit=-1)

    @pytest.mark.parametrize("text", ["\x00", "a\ud800", "\x9f"])
    async def test_characters_of_no_key_are_refused_in_a_listing(
        self, store: ObjectStore, text: str
    ) -> None:
        with pytest.raises(InvalidKeyError):
            await store.scan(text)
        with pytest.raises(InvalidKeyError):
            await store.scan("", after=text)

    # Life.

    async def test_what_has_expired_reads_as_absent(self, store: ObjectStore) -> None:
        past, future = _now() - 1, _now() + 3_600_000
        await store.write("gone", Value(b"1", expires_at=past))
        await store.write("live", Value(b"1", expires_at=future))
        await store.write("kept", Value(b"1"))

        assert await store.get("gone") is None
        assert await store.stat("gone") is None
        assert await store.read_range("gone", 0, 0) is None
        assert set(await store.get_many(["gone", "live", "kept"])) == {"live", "kept"}
        assert [entry.key for entry in await store.scan("")] == ["kept", "live"]
        assert [entry.key for entry in await store.scan("", limit=2)] == ["kept", "live"]
        with pytest.raises(PreconditionFailedError) as caught:
            await store.write("gone", Value(b"2"), when=Match("1"))
        assert caught.value.current is None
        assert not (await store.remove("gone")).existed
        await store.write("gone", Value(b"1", expires_at=past))
        await store.write("gone", Value(b"2"), when=ABSENT)
        found = await store.get("gone")
        assert found is not None
        assert found.body == b"2"

    async def test_expiry_removes_what_is_due_in_steps_and_nothing_else(
        self, store: ObjectStore
    ) -> None:
        now = _now()
        for number in range(10):
            await store.write(f"due/{number}", Value(b"x", expires_at=now - number))
        await store.write("renewed", Value(b"x", expires_at=now))
        await store.write("renewed", Value(b"x", expires_at=now + 3_600_000))
        await store.write("later", Value(b"x", expires_at=now + 3_600_000))
        await store.write("kept", Value(b"x"))
        await store.write("removed", Value(b"x", expires_at=now))
        await store.remove("removed")

        steps: list[int] = []
        while not steps or steps[-1] == 4:
            steps.append(await store.expire(now, limit=4))
        assert sum(steps) in (10, 11)  # a removed key that had expired may count
        assert max(steps) <= 4
        assert await store.expire(now) == 0
        assert [entry.key for entry in await store.scan("")] == ["kept", "later", "renewed"]
        assert await store.expire(now + 3_600_001) == 2
        assert [entry.key for entry in await store.scan("")] == ["kept"]

    async def test_a_store_answers_and_says_what_it_holds(self, store: ObjectStore) -> None:
        await store.ping()
        assert store.limits.key_bytes == 1024
        assert store.limits.value_bytes >= 2**26
        await store.close()
        await store.ping()

    async def test_closing_finishes_the_writes_that_were_accepted(self, store: ObjectStore) -> None:
        writes = [asyncio.create_task(store.write(f"k/{n}", Value(b"x"))) for n in range(50)]
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        await asyncio.gather(*writes)

        assert len(await store.scan("k/")) == 50

    # The calls of the first contract.

    async def test_the_calls_of_the_first_contract_work_on_the_same_values(
        self, store: ObjectStore
    ) -> None:
        context = StoreContext("notes", {"identity": "ada"}, "ada", ("self",), "push")
        await store.put("text", "é", context=context)
        await store.put_bytes("bytes", b"\xff", content_type="a/b", context=context)
        etag = await store.put_if_match("text", "ü", (await store.get_with_etag("text") or "")[1])

        assert await store.get_with_etag("text") == ("ü", etag)
        assert await store.get_string("text", context=context) == "ü"
        assert await store.get_bytes("bytes") == (b"\xff", "a/b")
        assert await store.put_if_match("text", "late", None) is None
        with pytest.raises(StoreError, match="get_bytes"):
            await store.get_string("bytes")
        assert await store.list_keys("") == ["bytes", "text"]
        await store.delete("text")
        await store.delete_many(["bytes", "bytes", "none"])
        assert await store.list_keys("") == []

"""What a store keeps under a key, and the conditions of a write: a part of `ObjectStoreContract`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from starfish_server.errors import InvalidKeyError
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore
from starfish_server.storage.values import ABSENT, ANY, Match, Metadata, Value
from starfish_server.testing._bodies import LARGE, large_body, now, pieces
from starfish_server.testing.store_contract import LEGAL_KEYS, REFUSED_KEYS

__all__ = ("ValueContract",)


@pytest.mark.asyncio
class ValueContract:
    """Values, keys and conditions."""

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
        later = now() + 3_600_000
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
        before = now()
        await store.write("a", Value(b"1"))

        metadata = await store.stat("a")
        assert metadata is not None
        assert metadata.hash is None
        assert metadata.expires_at is None
        assert before <= metadata.written_at <= now()

    @pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, LARGE])
    async def test_a_body_of_any_length_comes_back(self, store: ObjectStore, size: int) -> None:
        body = large_body()[:size]
        await store.write("a", Value(body, "a/b"))
        await store.write("after", Value(b"x"))

        found = await store.get("a")
        assert found is not None
        assert found.body == body
        assert found.metadata.size == size

    async def test_a_part_of_a_value_is_read_with_the_metadata_of_the_whole(
        self, store: ObjectStore
    ) -> None:
        body = large_body()
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
        await store.write("large", Value(large_body()))

        found = await store.get_many(["k/7", "none", "k/49", "large", "k/7"])
        assert {key: value.body for key, value in found.items()} == {
            "k/7": b"7",
            "k/49": b"49",
            "large": large_body(),
        }
        assert await store.get_many([]) == {}

    @pytest.mark.parametrize("size", [0, 1, 262_144, 1_048_576, LARGE])
    async def test_a_body_that_comes_in_pieces_is_one_value(
        self, store: ObjectStore, size: int
    ) -> None:
        body = large_body()[:size]
        written, metadata = await store.write_stream(
            "a", pieces(body, 100_000), Value(b"ignored", "image/png", written_at=5)
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
            yield large_body()
            raise LookupError("the client went away")

        await store.write("a", Value(b"old"))
        with pytest.raises(LookupError):
            await store.write_stream("a", broken(), Value(b""))
        with pytest.raises(PreconditionFailedError):
            await store.write_stream("a", pieces(large_body(), 1_000_000), Value(b""), when=ABSENT)

        found = await store.get("a")
        assert found is not None
        assert found.body == b"old"
        assert [entry.key for entry in await store.scan("")] == ["a"]

    async def test_the_last_write_wins_whatever_its_length(self, store: ObjectStore) -> None:
        for body in (b"one", large_body(), b"two", large_body()[:300_000], b""):
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
            store.write_stream(key, pieces(b"x", 1), Value(b"")),
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
            await store.write("a/b", Value(large_body()), when=ABSENT)
            await store.remove("a/b")
            assert await store.get("a/b") is None
            assert list(await store.scan("")) == []

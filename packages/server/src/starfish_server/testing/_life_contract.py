"""Listings, expiry and closing: a part of `ObjectStoreContract`."""

from __future__ import annotations

import asyncio

import pytest

from starfish_server.errors import InvalidKeyError, StoreError
from starfish_server.storage.base import StoreContext
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore
from starfish_server.storage.values import ABSENT, Match, Value
from starfish_server.testing._bodies import now

__all__ = ("LifeContract",)


@pytest.mark.asyncio
class LifeContract:
    """Listings, expiry, closing, and the calls of the first contract."""

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
        past, future = now() - 1, now() + 3_600_000
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
        moment = now()
        for number in range(10):
            await store.write(f"due/{number}", Value(b"x", expires_at=moment - number))
        await store.write("renewed", Value(b"x", expires_at=moment))
        await store.write("renewed", Value(b"x", expires_at=moment + 3_600_000))
        await store.write("later", Value(b"x", expires_at=moment + 3_600_000))
        await store.write("kept", Value(b"x"))
        await store.write("removed", Value(b"x", expires_at=moment))
        await store.remove("removed")

        steps: list[int] = []
        while not steps or steps[-1] == 4:
            steps.append(await store.expire(moment, limit=4))
        assert sum(steps) in (10, 11)  # a removed key that had expired may count
        assert max(steps) <= 4
        assert await store.expire(moment) == 0
        assert [entry.key for entry in await store.scan("")] == ["kept", "later", "renewed"]
        assert await store.expire(moment + 3_600_001) == 2
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

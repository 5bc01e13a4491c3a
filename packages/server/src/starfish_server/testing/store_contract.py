# ruff: noqa: D102  the name of a test is its sentence
"""What every store must keep to, as tests that anyone can run on their own.

A subclass named ``Test…`` supplies the fixture ``store`` and inherits the rest; needs pytest and
pytest-asyncio. Rule: no test here may know which store it has.
"""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from starfish_server.errors import InvalidKeyError, StoreError
from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.keys import MAX_KEY_BYTES

__all__ = ("LEGAL_KEYS", "REFUSED_KEYS", "StoreContract")

_MEBIBYTE = 2**20

LEGAL_KEYS = (
    "a",
    "a/b",
    "a/b/c",
    "A",
    "a.d",
    "a.d/b",
    "a.tmp",
    "a.lock",
    "a.json",
    ".hidden",
    ".starfish",
    ".starfish/locks/00",
    "...",
    "trailing.",
    "trailing ",
    " leading",
    "~tilde",
    "100%",
    "%41",
    "a%2Fb",
    "back\\slash",
    "colon:at@dash-under_score",
    "con",
    "nul.txt",
    "*?<>|\"'",
    "s" * 255,
    "s" * 256 + "/t",
    "." + "s" * 400,
    "x" * MAX_KEY_BYTES,
    "/".join("y" * 50),
    "é" * (MAX_KEY_BYTES // 2),
    "ключ/鍵/🔑",
    "e\u0301",
    "é",
    "\ue000",
    "\uffff",
    "\U0010ffff",
    "\U0010ffff\U0010ffff/z",
)
"""Keys that every store holds side by side, among them those that make trouble on some storage."""

REFUSED_KEYS = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/..",
    "a/./b",
    "a\x00b",
    "a\nb",
    "a\x7f",
    "a\x85",
    "\ud800",
    "x" * (MAX_KEY_BYTES + 1),
    "é" * (MAX_KEY_BYTES // 2 + 1),
)
"""Keys that every store refuses."""


@pytest.mark.asyncio
class StoreContract:
    """Tests of one store; supply the fixture ``store``, new and empty for each test."""

    @pytest.fixture
    def store(self) -> AbstractObjectStore:
        """The store under test, new and empty; the fixture closes it."""
        raise NotImplementedError("a subclass of StoreContract supplies the fixture `store`")

    # One value a key.

    async def test_a_key_never_written_has_no_value(self, store: AbstractObjectStore) -> None:
        assert await store.get_string("a") is None
        assert await store.get_bytes("a") is None
        assert await store.get_with_etag("a") is None
        assert await store.list_keys("") == []

    @pytest.mark.parametrize(
        "body", ["", "{}", "null\x00byte", "line\r\nline\n", "é 🔑 \U0010ffff \ufeff", "x" * 70_000]
    )
    async def test_a_text_comes_back_as_it_was(self, store: AbstractObjectStore, body: str) -> None:
        await store.put("a", body)

        assert await store.get_string("a") == body

    @pytest.mark.parametrize("body", [b"", b"\x00\xff\r\n", bytes(range(256)) * 300])
    async def test_bytes_come_back_with_their_content_type(
        self, store: AbstractObjectStore, body: bytes
    ) -> None:
        await store.put_bytes("a", body, content_type="image/png; x=1")

        assert await store.get_bytes("a") == (body, "image/png; x=1")

    async def test_a_mebibyte_comes_back(self, store: AbstractObjectStore) -> None:
        await store.put("text", "é" * (_MEBIBYTE // 2))
        await store.put_bytes("bytes", b"\xff" * _MEBIBYTE, content_type="a/b")

        assert await store.get_string("text") == "é" * (_MEBIBYTE // 2)
        assert await store.get_bytes("bytes") == (b"\xff" * _MEBIBYTE, "a/b")

    async def test_the_last_write_wins_whatever_its_kind(self, store: AbstractObjectStore) -> None:
        await store.put("a", "long " * 1000)
        await store.put_bytes("a", b"one", content_type="a/one")
        assert await store.get_bytes("a") == (b"one", "a/one")

        await store.put_bytes("a", b"two", content_type="a/two")
        assert await store.get_bytes("a") == (b"two", "a/two")

        await store.put("a", "three")
        assert await store.get_string("a") == "three"

    async def test_a_text_and_bytes_are_one_value(self, store: AbstractObjectStore) -> None:
        await store.put("text", "é", content_type="a/text")
        await store.put_bytes("bytes", "é".encode(), content_type="a/bytes")

        assert await store.get_bytes("text") == ("é".encode(), "a/text")
        assert await store.get_string("bytes") == "é"
        assert cast("tuple[str, str]", await store.get_with_etag("bytes"))[0] == "é"

    async def test_bytes_that_are_no_text_are_refused_as_text(
        self, store: AbstractObjectStore
    ) -> None:
        await store.put_bytes("a", b"\xff", content_type="a/b")
        others = asyncio.gather(*(store.get_string("b") for _ in range(8)))

        with pytest.raises(StoreError, match="get_bytes"):
            await store.get_string("a")
        with pytest.raises(StoreError, match="get_bytes"):
            await store.get_with_etag("a")
        assert await others == [None] * 8

    async def test_a_text_without_utf8_form_is_refused_and_nothing_is_written(
        self, store: AbstractObjectStore
    ) -> None:
        with pytest.raises(ValueError, match="surrogate"):
            await store.put("a", "x\ud800")
        with pytest.raises(ValueError, match="surrogate"):
            await store.put_if_match("a", "x\ud800", None)

        assert await store.get_string("a") is None

    async def test_a_caller_may_say_on_whose_behalf(self, store: AbstractObjectStore) -> None:
        context = StoreContext("notes", {"identity": "ada"}, "ada", ("self",), "push")
        await store.put("a", "1", cache_control="no-store", context=context)
        etag = await store.put_if_match("b", "2", None, context=context)
        await store.put_bytes("c", b"3", content_type="a/b", context=context)

        assert await store.get_string("a", context=context) == "1"
        assert await store.get_with_etag("b", context=context) == ("2", etag)
        assert await store.get_bytes("c", context=context) == (b"3", "a/b")
        assert await store.list_keys("", context=context) == ["a", "b", "c"]
        await store.delete("a", context=context)
        await store.delete_many(["b", "c"], context=context)
        assert await store.list_keys("", context=context) == []

    # Keys.

    async def test_every_legal_key_has_a_value_of_its_own(self, store: AbstractObjectStore) -> None:
        for number, key in enumerate(LEGAL_KEYS):
            assert await store.put_if_match(key, f"text {number}", None) is not None, key

        assert await store.list_keys("") == sorted(LEGAL_KEYS)
        for number, key in enumerate(LEGAL_KEYS):
            assert await store.get_string(key) == f"text {number}", key
        for number, key in enumerate(LEGAL_KEYS):
            await store.delete(key)
            assert await store.list_keys("") == sorted(LEGAL_KEYS[number + 1 :])

    @pytest.mark.parametrize("key", REFUSED_KEYS)
    async def test_an_illegal_key_is_refused_by_every_call(
        self, store: AbstractObjectStore, key: str
    ) -> None:
        await store.put("kept", "1")

        for call in (
            store.get_string(key),
            store.get_bytes(key),
            store.get_with_etag(key),
            store.put(key, "x"),
            store.put_bytes(key, b"x", content_type="a/b"),
            store.put_if_match(key, "x", None),
            store.delete(key),
            store.delete_many(["kept", key]),
        ):
            with pytest.raises(InvalidKeyError) as caught:
                await call
            assert caught.value.key == key
        assert await store.list_keys("") == ["kept"]

    # Etags.

    async def test_a_write_with_the_current_etag_succeeds(self, store: AbstractObjectStore) -> None:
        first = await store.put_if_match("a", "1", None)
        assert first is not None
        assert await store.get_with_etag("a") == ("1", first)

        second = await store.put_if_match("a", "2", first)
        assert second is not None
        assert second != first
        assert await store.get_with_etag("a") == ("2", second)

    @pytest.mark.parametrize("stale", ["", "0", "x", "\x00", "é", '"quoted"', "9" * 400])
    async def test_a_write_with_another_etag_changes_nothing(
        self, store: AbstractObjectStore, stale: str
    ) -> None:
        etag = await store.put_if_match("a", "1", None)

        assert await store.put_if_match("a", "2", stale) is None
        assert await store.put_if_match("a", "2", None) is None
        assert await store.put_if_match("absent", "2", stale) is None
        assert await store.get_with_etag("a") == ("1", etag)
        assert await store.get_with_etag("absent") is None

    async def test_every_kind_of_write_makes_a_new_etag(self, store: AbstractObjectStore) -> None:
        seen: list[str] = []

        async def now() -> str:
            found = await store.get_with_etag("a")
            assert found is not None
            return found[1]

        await store.put("a", "same")
        seen.append(await now())
        await store.put("a", "same")
        seen.append(await now())
        await store.put_bytes("a", b"same", content_type="a/b")
        seen.append(await now())
        await store.put_if_match("a", "same", seen[-1])
        seen.append(await now())

        assert len(set(seen)) == len(seen)
        for stale in seen[:-1]:
            assert await store.put_if_match("a", "late", stale) is None

    async def test_an_etag_does_not_come_back_with_the_value(
        self, store: AbstractObjectStore
    ) -> None:
        old = await store.put_if_match("a", "A", None)
        etag = await store.put_if_match("a", "B", old)
        assert await store.put_if_match("a", "A", etag) is not None

        assert await store.put_if_match("a", "late", old) is None
        assert await store.get_string("a") == "A"

    async def test_an_etag_does_not_come_back_with_the_key(
        self, store: AbstractObjectStore
    ) -> None:
        etags: set[str | None] = set()
        for _ in range(20):
            etags.add(await store.put_if_match("a", "A", None))
            await store.delete("a")
        await store.put("a", "A")

        assert None not in etags
        assert len(etags) == 20
        for etag in etags:
            assert await store.put_if_match("a", "late", etag) is None

    async def test_a_delete_makes_the_etag_stale(self, store: AbstractObjectStore) -> None:
        etag = await store.put_if_match("a", "1", None)
        await store.delete("a")

        assert await store.put_if_match("a", "2", etag) is None
        assert await store.get_string("a") is None

    async def test_reading_does_not_change_the_etag(self, store: AbstractObjectStore) -> None:
        etag = await store.put_if_match("a", "1", None)
        await store.get_bytes("a")
        await store.list_keys("")

        assert await store.get_with_etag("a") == ("1", etag)

    # Races.

    async def test_of_32_creators_one_wins(self, store: AbstractObjectStore) -> None:
        etags = await asyncio.gather(
            *(store.put_if_match("a", f"by {number}", None) for number in range(32))
        )

        (winner,) = [number for number, etag in enumerate(etags) if etag is not None]
        assert await store.get_with_etag("a") == (f"by {winner}", etags[winner])

    async def test_increments_of_many_tasks_are_all_counted(
        self, store: AbstractObjectStore
    ) -> None:
        async def increment(times: int) -> None:
            for _ in range(times):
                while True:
                    found = await store.get_with_etag("counter")
                    value, etag = (int(found[0]), found[1]) if found else (0, None)
                    if await store.put_if_match("counter", str(value + 1), etag) is not None:
                        break

        await asyncio.gather(*(increment(8) for _ in range(16)))

        assert await store.get_string("counter") == str(8 * 16)

    async def test_a_reader_sees_one_version_or_the_other(self, store: AbstractObjectStore) -> None:
        bodies = [letter * 50_000 for letter in "abcdefgh"]
        etags: dict[str, str] = {}
        await store.put("a", bodies[0])

        async def write() -> None:
            for body in bodies * 2:
                found = await store.get_with_etag("a")
                assert found is not None
                etag = await store.put_if_match("a", body, found[1])
                assert etag is not None
                etags[etag] = body

        writing = asyncio.create_task(write())
        read: list[tuple[str, str]] = []
        while not writing.done():
            found = await store.get_with_etag("a")
            assert found is not None
            read.append(found)
            await asyncio.sleep(0)
        await writing

        assert all(body in bodies for body, _ in read)
        assert all(etags.get(etag, body) == body for body, etag in read)

    async def test_a_cancelled_write_happened_or_not_and_the_store_goes_on(
        self, store: AbstractObjectStore
    ) -> None:
        bodies = [f"{number} " * 2000 for number in range(40)]
        for number, body in enumerate(bodies):
            found = await store.get_with_etag("a")
            assert found is None or found[0] in bodies[:number]
            writing = asyncio.create_task(
                store.put_if_match("a", body, found[1] if found else None)
            )
            for _ in range(number % 4):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

            await store.put("b", str(number))
            assert await store.get_string("b") == str(number)
        await store.close()  # a cancelled write may still happen until then
        last = await store.get_with_etag("a")

        assert last is None or last[0] in bodies
        assert await store.put_if_match("a", "next", last[1] if last else None) is not None

    async def test_a_cancelled_read_disturbs_no_other(self, store: AbstractObjectStore) -> None:
        await store.put("a", "1")
        reads = [asyncio.create_task(store.get_string("a")) for _ in range(30)]
        await asyncio.sleep(0)
        for read in reads[::2]:
            read.cancel()

        assert await asyncio.gather(*reads[1::2]) == ["1"] * 15
        await asyncio.gather(*reads, return_exceptions=True)

    # Listing.

    async def test_a_listing_is_sorted_by_code_point_and_complete(
        self, store: AbstractObjectStore
    ) -> None:
        keys = ["b", "a/b", "a", "a-b", "a.b", "a0", "ab", "a/\U0010ffff", "a/\uffff", "é", "a/A"]
        await asyncio.gather(*(store.put(key, "x") for key in keys))

        assert await store.list_keys("") == sorted(keys)
        for prefix in ["a", "a/", "a/b", "a/b/", "a/\U0010ffff", "a-", "z", "é", "//", "a/\uffff"]:
            assert await store.list_keys(prefix) == sorted(
                key for key in keys if key.startswith(prefix)
            ), prefix

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
    async def test_pages_together_are_the_whole_listing(
        self, store: AbstractObjectStore, size: int
    ) -> None:
        keys = sorted(f"{folder}/{name}" for folder in "abc" for name in ("x", "x/y", "x-", "z"))
        await asyncio.gather(*(store.put(key, "x") for key in keys))

        for prefix in ("", "b", "b/x", "b/x/"):
            pages: list[str] = []
            after: str | None = None
            while page := await store.list_keys(prefix, start_after=after, limit=size):
                assert len(page) <= size
                pages += page
                after = page[-1]
            assert pages == [key for key in keys if key.startswith(prefix)]

    async def test_a_listing_may_start_after_a_key_that_is_not_there(
        self, store: AbstractObjectStore
    ) -> None:
        await asyncio.gather(*(store.put(key, "x") for key in ("a/b", "a/d", "b/a")))

        assert await store.list_keys("a/", start_after="a/c") == ["a/d"]
        assert await store.list_keys("a/", start_after="A") == ["a/b", "a/d"]
        assert await store.list_keys("a/", start_after="a/d/") == []
        assert await store.list_keys("a/", start_after="b") == []
        assert await store.list_keys("", start_after="") == ["a/b", "a/d", "b/a"]

    async def test_a_limit_is_at_least_zero(self, store: AbstractObjectStore) -> None:
        await store.put("a", "x")

        assert await store.list_keys("", limit=0) == []
        assert await store.list_keys("", limit=10**30) == ["a"]
        with pytest.raises(ValueError, match="limit is -1"):
            await store.list_keys("", limit=-1)

    @pytest.mark.parametrize("text", ["\x00", "a\ud800", "\x9f"])
    async def test_characters_of_no_key_are_refused_in_a_listing(
        self, store: AbstractObjectStore, text: str
    ) -> None:
        with pytest.raises(InvalidKeyError):
            await store.list_keys(text)
        with pytest.raises(InvalidKeyError):
            await store.list_keys("", start_after=text)

    # Deleting and closing.

    async def test_what_is_deleted_is_gone_and_no_more(self, store: AbstractObjectStore) -> None:
        keys = ["a", "a/b", "a/b/c", "b"]
        await asyncio.gather(*(store.put(key, key) for key in keys))

        await store.delete("a/b")
        await store.delete("a/b")
        await store.delete("never/there")
        assert await store.list_keys("") == ["a", "a/b/c", "b"]
        assert await store.get_string("a/b/c") == "a/b/c"

        await store.delete_many(["a", "b", "b", "not/there"])
        await store.delete_many([])
        assert await store.list_keys("") == ["a/b/c"]

    async def test_a_key_can_be_written_again_after_its_folder_became_empty(
        self, store: AbstractObjectStore
    ) -> None:
        for _ in range(3):
            await store.put("a/b/c", "1")
            await store.delete("a/b/c")
            await store.put("a", "2")
            await store.put("a/b", "3")
            assert await store.list_keys("") == ["a", "a/b"]
            await store.delete_many(["a", "a/b"])

    async def test_closing_twice_is_harmless_and_the_store_can_be_used_again(
        self, store: AbstractObjectStore
    ) -> None:
        await store.close()
        etag = await store.put_if_match("a", "1", None)
        await store.close()
        await store.close()

        assert await store.get_with_etag("a") == ("1", etag)

    async def test_closing_finishes_the_writes_that_were_accepted(
        self, store: AbstractObjectStore
    ) -> None:
        writes = [asyncio.create_task(store.put(f"k/{number}", "x")) for number in range(50)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*writes)

        assert len(await store.list_keys("k/")) == 50

"""Documents in an object storage: in memory, and on a real S3 server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore, S3Store
from obstore.store import ObjectStore as Storage

from servers.s3 import S3Server
from starfish_server.errors import StoreUnavailableError
from starfish_server.storage import objects
from starfish_server.storage._objects._names import bound_of, is_cut, name_of
from starfish_server.storage.base import AbstractObjectStore
from starfish_server.storage.errors import OutcomeUnknownError, PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore, write_once
from starfish_server.storage.objects import ObjectStoreAdapter
from starfish_server.storage.values import ABSENT, Match, Value
from starfish_server.testing import ObjectStoreContract, OpenStore, PersistentStoreContract


@pytest.fixture
def bucket(s3_server: S3Server) -> Storage:
    """A part of the bucket that nothing else uses."""
    return S3Store(
        prefix=uuid.uuid4().hex, **s3_server.store_options, client_options={"allow_http": True}
    )


class TestMemoryStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[ObjectStore]:
        store = ObjectStoreAdapter(MemoryStore())
        yield store
        await store.close()


@pytest.mark.network
class TestS3(ObjectStoreContract):
    @pytest.fixture
    async def store(self, bucket: Storage) -> AsyncIterator[ObjectStore]:
        store = ObjectStoreAdapter(bucket)
        yield store
        await store.close()


@pytest.mark.network
class TestS3Persists(PersistentStoreContract):
    kill_rounds = 10

    @pytest.fixture
    def open_store(self, bucket: Storage) -> OpenStore:
        return partial(ObjectStoreAdapter, bucket)

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[AbstractObjectStore]:
        store = open_store()
        yield store
        await store.close()


KEYS = st.text(
    alphabet=st.sampled_from("-./09:@AZ_`az{~ \u007f\u00a0é\uffff\U0010ffff"), min_size=1
)


@given(st.lists(KEYS, min_size=2, max_size=6))
def test_names_sort_as_keys_do_and_none_is_that_of_two(keys: list[str]) -> None:
    names = {key: name_of(key) for key in keys}
    whole = [key for key in sorted(set(keys)) if not is_cut(names[key])]

    assert [names[key] for key in whole] == sorted(names[key] for key in whole)
    assert len(set(names.values())) == len(set(keys))
    for key in keys:
        assert len(names[key]) < 255
        assert "/" not in names[key]
        for longer in keys:
            assert not longer.startswith(key) or bound_of(key) < names[longer]


async def test_keys_of_one_long_beginning_are_listed_in_order_and_page_by_page() -> None:
    store = ObjectStoreAdapter(MemoryStore())
    keys = sorted(f"{'x' * 250}/{number}" for number in range(40))
    await asyncio.gather(*(store.write(key, Value(b"1")) for key in [*keys, "a", "y"]))

    found: list[str] = []
    after: str | None = None
    while page := await store.scan("x", after=after, limit=7):
        found += [entry.key for entry in page]
        after = page[-1].key
    assert found == keys


def _behind(endpoint: Any, options: dict[str, str], retries: int) -> ObjectStoreAdapter:
    # The signature covers the host that was asked, so it is the real one's.
    return ObjectStoreAdapter(
        S3Store(
            prefix=uuid.uuid4().hex,
            **{**options, "endpoint": f"http://127.0.0.1:{endpoint.port}"},
            client_options={"allow_http": True},
            retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=20)},
        )
    )


@pytest.mark.network
@pytest.mark.parametrize("retries", [0, 3])
async def test_a_write_whose_answer_is_lost_knows_itself(
    s3_server: S3Server, retries: int, endpoint_class: Any
) -> None:
    async with endpoint_class(s3_server.port) as endpoint:
        store = _behind(endpoint, s3_server.store_options, retries)
        first = await store.write("a", Value(b"1"))
        value = Value(b"2")
        endpoint.swallows = b"PUT"
        if retries == 0:
            with pytest.raises(OutcomeUnknownError) as caught:
                await store.write("a", value, when=Match(first.etag))
            assert (caught.value.key, caught.value.write_id) == ("a", value.write_id)
        written = await write_once(store, "a", value, when=Match(first.etag))
        assert endpoint.swallowed == 1

        found = await store.get("a")
        assert found is not None
        assert (found.body, found.metadata.etag) == (b"2", written.etag)
        assert found.metadata.generation == 2
        with pytest.raises(PreconditionFailedError):
            await write_once(store, "a", Value(b"3"), when=Match(first.etag))
        await store.close()


@pytest.mark.network
@pytest.mark.parametrize("others", [1, 48, 49])
async def test_a_repeated_write_that_others_replaced_meanwhile_is_never_called_a_conflict(
    s3_server: S3Server, others: int, endpoint_class: Any
) -> None:
    async with endpoint_class(s3_server.port) as endpoint:
        store = _behind(endpoint, s3_server.store_options, 3)
        first = await store.write("a", Value(b"1"))

        async def replace() -> None:
            for number in range(others):
                await store.write("a", Value(b"by another %d" % number))

        endpoint.swallows, endpoint.meanwhile = b"PUT", replace
        writing = store.write("a", Value(b"2"), when=Match(first.etag))
        if others > 48:
            with pytest.raises(OutcomeUnknownError, match="too many writes followed it"):
                await writing
        else:
            assert (await writing).generation == 2
        assert endpoint.swallowed == 1
        found = await store.get("a")
        assert found is not None
        assert found.metadata.generation == 2 + others
        await store.close()


async def test_a_storage_that_ignores_conditions_is_refused(
    s3_server: S3Server, endpoint_class: Any
) -> None:
    async with endpoint_class(None) as endpoint:
        store = _behind(endpoint, s3_server.store_options, 0)
        with pytest.raises(StoreUnavailableError, match="ignores the conditions"):
            await store.write("a", Value(b"1"))


async def test_a_folder_has_no_conditional_writes_and_is_refused(tmp_path: Path) -> None:
    store = ObjectStoreAdapter(LocalStore(tmp_path))
    with pytest.raises(StoreUnavailableError, match="LocalStore is unavailable"):
        await store.ping()


async def test_a_storage_that_does_not_answer_is_named(
    s3_server: S3Server, endpoint_class: Any
) -> None:
    async with endpoint_class(None) as endpoint:
        pass  # and gone
    store = _behind(endpoint, s3_server.store_options, 0)
    for call in (store.ping(), store.get("a"), store.write("a", Value(b"1")), store.scan("")):
        with pytest.raises(StoreUnavailableError, match="S3Store is unavailable"):
            await call


async def test_an_object_of_something_else_is_named_and_left_alone() -> None:
    storage = MemoryStore()
    await obstore.put_async(storage, "values/a", b"SFV1 but not really")
    store = ObjectStoreAdapter(storage)
    for call in (store.get("a"), store.write("a", Value(b"1")), store.scan("")):
        with pytest.raises(StoreUnavailableError, match="not one of a document store"):
            await call


async def test_bodies_that_no_value_names_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 9_000_000
        raise LookupError

    storage = MemoryStore()
    store = ObjectStoreAdapter(storage)
    large = b"x" * 3_000_000
    await store.write("a", Value(large))
    await store.write("a", Value(large))
    await store.write("b", Value(large))
    await store.remove("b")
    with pytest.raises(LookupError):
        await store.write_stream("a", broken(), Value(b""))
    with pytest.raises(PreconditionFailedError):
        await store.write("a", Value(large), when=Match("none"))
    await obstore.put_async(storage, "blobs/a/00", b"of a writer that was killed")
    monkeypatch.setattr(objects, "_ABANDONED", timedelta(0))
    await asyncio.sleep(0.01)
    await store.expire(0)

    names = [each["path"] async for page in obstore.list(storage, prefix="blobs") for each in page]
    assert len(names) == 1
    found = await store.get("a")
    assert found is not None
    assert found.body == large
    await obstore.delete_async(storage, names)
    with pytest.raises(StoreUnavailableError, match="the body of key 'a' is missing"):
        await store.get("a")
    with pytest.raises(StoreUnavailableError, match="the body of key 'a' is missing"):
        await store.read_range("a", 0, 9)


async def test_a_deleted_key_goes_on_counting_its_writes() -> None:
    store = ObjectStoreAdapter(MemoryStore())
    await store.write("a", Value(b"1"))
    await store.remove("a")
    assert (await store.write("a", Value(b"2"), when=ABSENT)).generation == 3

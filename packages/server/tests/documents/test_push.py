"""Pull and push without HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from starfish_protocol.hash import compute_hash
from starfish_protocol.testing import ManualClock
from starfish_server import (
    AbstractObjectStore,
    MemoryObjectStore,
    PushConflict,
    PushSuccess,
    StoreContext,
    pull,
    push,
)
from starfish_server.documents._push import VersionMemory
from starfish_server.protocol.errors import ContentionError
from starfish_server.protocol.types import AuthorProof
from starfish_server.storage import Value, Written

KEY = "notes/ada"


async def test_a_push_stores_and_a_pull_reads() -> None:
    store, clock = MemoryObjectStore(), ManualClock(7)
    proof = AuthorProof("0" * 64, "c2ln")

    pushed = await push(store, KEY, {"a": 1}, None, proof, clock=clock)
    pulled = await pull(store, KEY, clock=clock)

    digest = compute_hash({"a": 1})
    assert pushed == PushSuccess(digest, 7)
    assert (pulled.data, pulled.hash, pulled.timestamp) == ({"a": 1}, digest, 7)
    assert (pulled.author_pubkey, pulled.author_signature) == ("0" * 64, "c2ln")
    stored = json.loads(await store.get_string(KEY) or "")
    assert stored == {
        "v": 1, "data": {"a": 1}, "ts": 7, "hash": digest,
        "authorPubkey": "0" * 64, "authorSignature": "c2ln",
    }  # fmt: skip


async def test_the_stored_hash_is_believed() -> None:
    text = json.dumps({"v": 1, "data": {"a": 1}, "ts": 1, "hash": "f" * 64})

    assert (await pull(MemoryObjectStore({KEY: text}), KEY)).hash == "f" * 64


async def test_a_conflict_writes_nothing() -> None:
    store = MemoryObjectStore()
    first = await push(store, KEY, {"a": 1}, None)
    before = await store.get_with_etag(KEY)

    assert await push(store, KEY, {"a": 2}, "0" * 64) == PushConflict(first.hash)
    assert await store.get_with_etag(KEY) == before


@pytest.mark.parametrize("data", [{"a": b""}, {1: 2}, {"a": 2**64}, {"a": {1}}, {"a": "\ud800"}])
async def test_what_has_no_json_form_is_refused(data: Any) -> None:
    store = MemoryObjectStore()

    with pytest.raises(TypeError):
        await push(store, KEY, data, None)
    assert await store.list_keys("") == []


class PlainStore(AbstractObjectStore):
    """Somebody else's store: the plain calls, each with a pause."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        await asyncio.sleep(0)
        return self.texts.get(key)

    async def put(self, key: str, body: str, **_options: Any) -> None:
        await asyncio.sleep(0)
        self.texts[key] = body

    async def list_keys(self, prefix: str, **_options: Any) -> list[str]:
        return sorted(key for key in self.texts if key.startswith(prefix))

    async def delete(self, key: str, *, context: StoreContext | None = None) -> None:
        self.texts.pop(key, None)

    async def delete_many(self, keys: Any, *, context: StoreContext | None = None) -> None:
        for key in keys:
            self.texts.pop(key, None)


async def test_a_plain_store_is_safe_within_the_process() -> None:
    store = PlainStore()

    results = await asyncio.gather(*(push(store, KEY, {"n": n}, None) for n in range(10)))

    assert sum(isinstance(result, PushSuccess) for result in results) == 1


class MovingStore(MemoryObjectStore):
    """Another writer rewrites the same content before each of our writes."""

    async def write(self, key: str, value: Value, **kwargs: Any) -> Written:
        current = await self.get(key)
        if current is not None:
            await super().write(key, Value(current.body, hash=current.metadata.hash))
        return await super().write(key, value, **kwargs)


async def test_a_writer_that_is_never_fast_enough_gives_up() -> None:
    store = MovingStore()
    first = await push(store, KEY, {"n": 0}, None)

    with pytest.raises(ContentionError):
        await push(store, KEY, {"n": 1}, first.hash)
    assert (await pull(store, KEY)).data == {"n": 0}


def test_the_memory_of_versions_is_bounded() -> None:
    memory = VersionMemory(capacity=2)
    for name in "abac":
        memory.remember(name, f"hash of {name}", 1, name)

    assert memory.etag_of("a", "hash of a", None) == "a"
    assert memory.etag_of("b", "hash of b", None) is None
    assert memory.etag_of("c", "hash of c", None) == "c"
    assert memory.etag_of("c", "another", None) is None
    assert memory.etag_of("c", "hash of c", 1) is None

"""Random pushes through two plugins on one store, with conflicts and failures, against a model."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from starfish_projection import (
    Projection,
    ProjectionOp,
    ProjectionRemove,
    ProjectionSet,
    create_projection_server_plugin,
)
from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import WriteEvent
from starfish_protocol.testing import ManualClock
from starfish_server.protocol.push import push
from starfish_server.protocol.types import PushSuccess
from starfish_server.storage.memory import MemoryObjectStore


class _Jittery(MemoryObjectStore):
    """A store that lets other tasks run within every call, some more often than others."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    async def _wait(self) -> None:
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)

    async def get_string(self, key: str, **options: Any) -> str | None:
        await self._wait()
        return await super().get_string(key, **options)

    async def get_with_etag(self, key: str, **options: Any) -> tuple[str, str] | None:
        await self._wait()
        found = await super().get_with_etag(key, **options)
        await self._wait()
        return found

    async def put_if_match(
        self, key: str, body: str, expected_etag: str | None, **options: Any
    ) -> str | None:
        await self._wait()
        etag = await super().put_if_match(key, body, expected_etag, **options)
        await self._wait()
        return etag


def _project(event: WriteEvent) -> ProjectionOp:
    body = event.body or {}
    if body["n"] is None:
        return ProjectionRemove(event.params["note"])
    return ProjectionSet(event.params["note"], {"n": body["n"]})


_pushes = st.lists(
    st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 5), st.integers(0, 1)),
    max_size=30,
)


@given(pushes=_pushes, seed=st.integers(0, 2**32), remembered=st.sampled_from([0, 1, 256]))
@example(pushes=[("a", 1, 0), ("a", 2, 1), ("a", None, 0), ("a", 1, 1)], seed=1, remembered=256)
def test_the_list_ends_as_the_documents_say_whoever_was_faster(
    pushes: list[tuple[str, int | None, int]], seed: int, remembered: int
) -> None:
    asyncio.run(_run(pushes, seed, remembered))


async def _run(pushes: list[tuple[str, int | None, int]], seed: int, remembered: int) -> None:
    store = _Jittery(seed)
    view = Projection("notes", "list", _project)
    plugins: list[Any] = [
        create_projection_server_plugin(
            store=store, projections=[view], max_remembered_lists=remembered, max_retries=10_000
        )
        for _ in range(2)
    ]

    async def client(index: int, note: str, number: int | None, through: int) -> None:
        body = {"n": number, "push": index}
        key = f"notes/{note}"
        base: str | None = None
        while not isinstance(answer := await push(store, key, body, base), PushSuccess):
            base = answer.current_hash or None
        event = WriteEvent(
            "notes", answer.hash, answer.timestamp, {"note": note}, body, document_key=key
        )
        await plugins[through].after_write(event)

    await asyncio.gather(*(client(index, *each) for index, each in enumerate(pushes)))

    expected = {}
    for key in await store.list_keys("notes/"):
        document = json.loads(await store.get_string(key) or "")
        if document["data"]["n"] is not None:
            expected[key.removeprefix("notes/")] = {"n": document["data"]["n"]}
    text = await store.get_string("list")
    data = {"items": []} if text is None else json.loads(text)["data"]
    assert {entry["id"]: entry["value"] for entry in data["items"]} == expected
    assert text is None or json.loads(text)["hash"] == compute_hash(data)
    assert [plugin.stats().dropped for plugin in plugins] == [{}, {}]


_batches = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 2)), max_size=5),
    max_size=12,
)


@given(batches=_batches)
def test_a_cold_memory_and_a_warm_one_write_the_same_bytes(
    batches: list[list[tuple[str, int | None]]],
) -> None:
    async def bodies(remembered: int) -> list[str | None]:
        store = MemoryObjectStore()
        plugin: Any = create_projection_server_plugin(
            store=store,
            projections=[Projection("notes", "list", _project)],
            max_remembered_lists=remembered,
            clock=ManualClock(),
        )
        seen: list[str | None] = []
        for batch in batches:
            events = [
                WriteEvent("notes", "h", 1, {"note": note}, {"n": number}) for note, number in batch
            ]
            await asyncio.gather(*map(plugin.after_write, events))
            seen.append(await store.get_string("list"))
        return seen

    assert asyncio.run(bodies(0)) == asyncio.run(bodies(256))

"""No body within the limit keeps the event loop from other requests for long."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import httpx
import orjson
import pytest

from starfish_server import (
    AppendOnlyConfig,
    AuthResult,
    CollectionConfig,
    MemoryObjectStore,
    SyncConfig,
    SyncRouterOptions,
    create_sync_router,
)
from starfish_server.router.application import SyncFastAPI

BYTES = 1_000_000
LONGEST_S = 0.25


def repeated(member: bytes) -> bytes:
    count = BYTES // (len(member) + 1)
    return b'{"baseHash":null,"data":{"a":[' + b",".join([member] * count) + b"]}}"


BODIES = {
    "small-numbers": repeated(b"1e-7"),
    "large-exponents": repeated(b"1E5"),
    "fixed-exponents": repeated(b"1e17"),
    "negative-zero": repeated(b"-0.0"),
    "large-integers": repeated(b"18446744073709551617"),
    "empty-arrays": repeated(b"[]"),
    "empty-objects": repeated(b"{}"),
    "deep-arrays": repeated(b"[" * 60 + b"]" * 60),
    "deep-objects": repeated(b'{"a":' * 30 + b"1" + b"}" * 30),
    "dropped-keys": repeated(b'{"__proto__":1}'),
    "escapes": repeated(rb'"\\\"[{"'),
    "brackets-in-text": repeated(b'"[["'),
    "late-keys": repeated('{"\U0001f600":1,"\uffee":2}'.encode()),
    "many-keys": b'{"data":{' + b",".join(b'"%d":1' % n for n in range(BYTES // 10)) + b"}}",
    "one-text": b'{"data":{"a":"' + b"x" * BYTES + b'"}}',
}
PUBLIC: dict[str, Any] = {"read_roles": ["public"], "write_roles": ["public"]}
CONFIG = SyncConfig(
    collections=[
        CollectionConfig(name="notes", storage_path="notes/{id}", **PUBLIC),
        CollectionConfig(
            name="log",
            storage_path="log/{id}",
            append_only=AppendOnlyConfig(type="by_timestamp", require_author_signature=False),
            **PUBLIC,
        ),
        CollectionConfig(
            name="checked",
            storage_path="checked/{id}",
            object_schema={"properties": {"a": {"type": ["array", "string"]}}},
            field_permissions={"b": {"read_roles": ["staff"]}},
            **PUBLIC,
        ),
    ]
)


async def anybody(_request: object) -> AuthResult:
    return AuthResult(identity=None)


async def longest_gap(stop: asyncio.Event) -> float:
    """How long the event loop was away at most."""
    longest, before = 0.0, time.monotonic()
    while not stop.is_set():
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    return longest


def seconds_to_decode(body: bytes) -> float:
    """How long one call in C takes here and now, which no thread can shorten."""
    begin = time.monotonic()
    orjson.loads(body)
    return time.monotonic() - begin


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("collection", ["notes", "log", "checked"])
async def test_a_push_does_not_stop_the_loop(name: str, collection: str) -> None:
    app = SyncFastAPI()
    options = SyncRouterOptions(MemoryObjectStore(), CONFIG, anybody)
    app.include_router(create_sync_router(options))
    transport = httpx.ASGITransport(app)
    allowed = max(LONGEST_S, 4 * seconds_to_decode(BODIES[name]))
    gaps: list[float] = []
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://test.invalid")
        )
        for attempt in range(3):  # another process may have been in the way
            stop = asyncio.Event()
            heart = asyncio.create_task(longest_gap(stop))
            answer = await client.post(
                f"/push/{collection}/{attempt}",
                content=BODIES[name],
                headers={"content-type": "application/json"},
            )
            pulled = await client.get(f"/pull/{collection}/{attempt}?last=1")
            stop.set()
            gaps.append(await heart)
            assert (answer.status_code, pulled.status_code) == (200, 200)
            if gaps[-1] < allowed:
                break

    assert min(gaps) < allowed, gaps

"""Recorded histories of each store: every operation has a moment at which it could have happened.

``STARFISH_OPERATIONS`` says how many operations of each store; the promise is 100,000.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from obstore.store import S3Store

from servers.postgres import PostgresServer
from servers.s3 import S3Server
from starfish_server.errors import StoreError, StoreUnavailableError
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.errors import OutcomeUnknownError, PreconditionFailedError
from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.storage.object_store import ObjectStore
from starfish_server.storage.objects import ObjectStoreAdapter
from starfish_server.storage.postgres import PostgresObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore
from starfish_server.storage.values import ABSENT, ANY, Match, Precondition, Value
from starfish_server.testing.linearizability import ANY_VERSION, Operation, find_violation

OPERATIONS = int(os.environ.get("STARFISH_OPERATIONS", "1500"))
CLIENTS = 8
KEYS = 12

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + OPERATIONS // 20)]


class Recorder:
    """Clients that do at random whatever a store can, and write down what they saw."""

    def __init__(self, *, deletes_on_condition: bool = True) -> None:
        self.history: list[Operation] = []
        self._versions = map(str, itertools.count(1))
        self._deletes_on_condition = deletes_on_condition

    async def run(self, stores: Sequence[ObjectStore], operations: int = OPERATIONS) -> None:
        counter = iter(range(operations))
        await asyncio.gather(
            *(
                self._client(stores[client % len(stores)], client, counter)
                for client in range(CLIENTS)
            )
        )

    async def _client(self, store: ObjectStore, client: int, counter: Any) -> None:
        chance = random.Random(client)
        seen: dict[str, tuple[str, str]] = {}  # etag and version that this client read last
        for _ in counter:
            key = f"k/{chance.randrange(KEYS)}"
            kind = chance.choice(["read", "read", "write", "write", "write", "delete"])
            try:
                if kind == "read":
                    await self._read(store, key, seen)
                else:
                    await self._change(store, key, kind, chance, seen)
            except StoreUnavailableError:  # nothing was changed, nothing was seen
                await asyncio.sleep(0.01)

    async def _read(self, store: ObjectStore, key: str, seen: dict[str, tuple[str, str]]) -> None:
        called = time.monotonic_ns()
        found = await store.get(key)
        replied = time.monotonic_ns()
        version = None if found is None else found.body.decode()
        seen.pop(key, None)
        if found is not None and version is not None:
            seen[key] = found.metadata.etag, version
        self.history.append(Operation(key, "read", called, replied, version))

    async def _change(
        self,
        store: ObjectStore,
        key: str,
        kind: str,
        chance: random.Random,
        seen: dict[str, tuple[str, str]],
    ) -> None:
        when: Precondition = ANY
        expected: str | None = ANY_VERSION
        if kind == "write" or self._deletes_on_condition:
            choice = chance.random()
            if key in seen and choice < 0.7:
                when, expected = Match(seen[key][0]), seen[key][1]
            elif choice < 0.8:
                when, expected = ABSENT, None
        version = next(self._versions) if kind == "write" else None
        is_refused, replied = False, None
        called = time.monotonic_ns()
        try:
            if version is not None:
                written = await store.write(key, Value(version.encode()), when=when)
                seen[key] = written.etag, version
            else:
                await store.remove(key, when=when)
            replied = time.monotonic_ns()
        except PreconditionFailedError:
            replied = time.monotonic_ns()
            is_refused = True
        except OutcomeUnknownError:
            pass
        self.history.append(
            Operation(
                key,
                "write" if version is not None else "delete",
                called,
                replied,
                version,
                expected,
                is_refused,
            )
        )


def report(name: str, recorder: Recorder) -> None:
    """Nothing is found, and there was something to find."""
    violation = find_violation(recorder.history)
    assert violation is None, str(violation)
    lost = sum(each.replied is None for each in recorder.history)
    refused = sum(each.is_refused for each in recorder.history)
    sys.stdout.write(
        f"{name}: {len(recorder.history)} operations, {refused} refused, {lost} lost answers\n"
    )
    assert refused > 0


async def test_memory() -> None:
    recorder = Recorder()
    await recorder.run([MemoryObjectStore()])
    report("memory", recorder)


async def test_sqlite_with_two_handles(tmp_path: Path) -> None:
    stores = [SqliteObjectStore(tmp_path / "documents.sqlite") for _ in range(2)]
    recorder = Recorder()
    await recorder.run(stores)
    for store in stores:
        await store.close()
    report("sqlite", recorder)


async def test_files_with_two_handles(tmp_path: Path) -> None:
    stores = [as_object_store(FilesystemObjectStore(tmp_path)) for _ in range(2)]
    recorder = Recorder(deletes_on_condition=False)
    await recorder.run(stores)
    for store in stores:
        await store.close()
    report("filesystem", recorder)


@asynccontextmanager
async def troubles(*kinds: Any) -> AsyncIterator[None]:
    """Make trouble, of one kind after the other, while the block runs."""

    async def go_on() -> None:
        for trouble in itertools.cycle(kinds):
            await asyncio.sleep(0.3)
            await trouble()

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.network
async def test_two_servers_on_postgres_that_is_killed_behind_a_network_that_cuts(
    own_postgres_server: PostgresServer, proxy_class: Any
) -> None:
    async with proxy_class(own_postgres_server.port) as proxy:
        address = own_postgres_server.dsn.replace(str(own_postgres_server.port), str(proxy.port))
        stores = [PostgresObjectStore(address) for _ in range(2)]
        await stores[0].ping()

        async def cut() -> None:
            proxy.cut()

        async def swallow() -> None:
            proxy.swallows = True
            await asyncio.sleep(0.05)
            proxy.swallows = False

        async def restart() -> None:
            await asyncio.to_thread(own_postgres_server.stop, signal.SIGKILL)
            await asyncio.to_thread(own_postgres_server.start)

        recorder = Recorder()
        async with troubles(swallow, cut, swallow, restart):
            await recorder.run(stores)
        for store in stores:
            await store.close()
    report("postgres", recorder)


@pytest.mark.network
async def test_two_servers_on_s3_behind_a_network_that_loses_answers(
    s3_server: S3Server, endpoint_class: Any
) -> None:
    async with endpoint_class(s3_server.port) as endpoint:
        prefix = uuid.uuid4().hex
        stores = [
            ObjectStoreAdapter(
                S3Store(
                    prefix=prefix,
                    **{**s3_server.store_options, "endpoint": f"http://127.0.0.1:{endpoint.port}"},
                    client_options={"allow_http": True},
                    retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=20)},
                )
            )
            for retries in (0, 3)
        ]

        async def swallow() -> None:
            endpoint.swallows = b"PUT"

        for store in stores:
            await store.ping()
        recorder = Recorder()
        async with troubles(swallow):
            await recorder.run(stores, OPERATIONS // 3)
        for store in stores:
            await store.close()
    report("objects", recorder)


class Forgetful(MemoryObjectStore):
    """A memory store that now and then compares without swapping, or answers with an old value."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self._fault = fault
        self._chance = random.Random(3)
        self._old: dict[str, Any] = {}

    async def get(self, key: str, **more: Any) -> Any:
        await asyncio.sleep(0)
        found = await super().get(key, **more)
        if self._fault == "stale read" and self._chance.random() < 0.02:
            return self._old.get(key, found)
        self._old[key] = found
        return found

    async def write(self, key: str, value: Value, **more: Any) -> Any:
        await asyncio.sleep(0)
        if self._fault == "lost update" and self._chance.random() < 0.02:
            try:
                return await super().write(key, value, **{**more, "when": ANY})
            except StoreError:
                raise AssertionError from None
        return await super().write(key, value, **more)


@pytest.mark.parametrize("fault", ["lost update", "stale read"])
async def test_a_planted_fault_is_found(fault: str) -> None:
    recorder = Recorder()
    await recorder.run([Forgetful(fault)], 3000)
    assert find_violation(recorder.history) is not None

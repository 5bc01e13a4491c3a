"""A nonce is taken once: by any implementation, any process, any server, and after a restart."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from starfish_disk.testing import (
    ForkContract,
    FullDiskContract,
    OpenStore,
    ReplacedFileContract,
    SqliteFileContract,
)
from starfish_http.callers.nonces import MemoryNonces, NonceLimits, NonceStore, nonce_digest
from starfish_protocol.testing import ManualClock
from starfish_server import MemoryObjectStore
from starfish_server.auth import _sqlite_nonces
from starfish_server.auth.capabilities import SqliteNonces, StoredNonces
from starfish_server.errors import StoreError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "nonces.json").read_text())
NOW = 1_900_000_000_000


@pytest.fixture(params=["memory", "sqlite", "store"])
async def make(request: Any, tmp_path: Path) -> AsyncIterator[Any]:
    clock = ManualClock(0)
    opened: list[SqliteNonces] = []

    def make(limits: NonceLimits) -> tuple[NonceStore, ManualClock]:
        if request.param == "memory":
            return MemoryNonces(limits), clock
        if request.param == "store":
            return StoredNonces(MemoryObjectStore(clock=clock), limits=limits), clock
        nonces = SqliteNonces(tmp_path / "nonces.sqlite", limits=limits)
        opened.append(nonces)
        return nonces, clock

    yield make
    for nonces in opened:
        await nonces.close()


async def test_the_calls_of_the_vectors(make: Any) -> None:
    nonces, clock = make(NonceLimits(total=4, of_a_signer=2))

    for call in VECTORS["calls"]:
        clock.advance(call["now"] - clock.now_ms())
        told = await nonces.take(
            call["signer"], call["nonce"], call["now"], signed_ms=call["now"], is_known=True
        )
        assert (told == "fresh") is call["fresh"], call["means"]


async def test_strangers_leave_room_for_users_who_are_known(make: Any) -> None:
    nonces, _ = make(NonceLimits(total=10, of_strangers=3, of_a_signer=9, of_a_stranger=2))

    async def take(signer: str, number: int, *, is_known: bool) -> str:
        return await nonces.take(signer, str(number), NOW, signed_ms=NOW, is_known=is_known)

    assert [await take("s", n, is_known=False) for n in range(3)] == ["fresh", "fresh", "full"]
    assert [await take("t", n, is_known=False) for n in range(2)] == ["fresh", "full"]
    assert [await take("known", n, is_known=True) for n in range(8)] == ["fresh"] * 7 + ["full"]


async def test_many_expired_nonces_make_room_again(make: Any) -> None:
    nonces, clock = make(NonceLimits(total=200, of_a_signer=200))

    async def take(number: int, now: int) -> str:
        return await nonces.take("a", str(number), now, signed_ms=now, is_known=True)

    assert [await take(n, NOW) for n in range(201)] == ["fresh"] * 200 + ["full"]
    later = NOW + 600_001
    clock.advance(later - clock.now_ms())
    assert [await take(n, later) for n in range(200)] == ["fresh"] * 200


async def test_of_simultaneous_copies_one_is_fresh(make: Any) -> None:
    nonces, _ = make(NonceLimits())

    told = await asyncio.gather(
        *(nonces.take("a", "n", NOW, signed_ms=NOW, is_known=True) for _ in range(50))
    )

    assert sorted(told) == ["fresh"] + ["used"] * 49


RACER = """
import asyncio, sys
from starfish_server.auth.capabilities import SqliteNonces, StoredNonces
from starfish_server.storage.sqlite import SqliteObjectStore

async def main(kind, path):
    one = kind == "sqlite"
    nonces = SqliteNonces(path) if one else StoredNonces(SqliteObjectStore(path))
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(100):
        print(await nonces.take("a", str(n), %d, signed_ms=%d, is_known=True), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "store"])
def test_four_processes_take_each_nonce_once(tmp_path: Path, kind: str) -> None:
    now = time.time_ns() // 1_000_000  # the store's own clock is the machine's
    command = [sys.executable, "-c", RACER % (now, now), kind, str(tmp_path / "file.sqlite")]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [racer.communicate(timeout=50)[0].split() for racer in racers]

    assert [len(each) for each in told] == [100] * 4
    for number in range(100):
        assert sorted(each[number] for each in told) == ["fresh", "used", "used", "used"]


async def test_a_restart_remembers(tmp_path: Path) -> None:
    for expected in ("fresh", "used"):
        nonces = SqliteNonces(tmp_path / "nonces.sqlite")
        assert await nonces.take("a", "n", NOW, signed_ms=NOW, is_known=True) == expected
        await nonces.close()


async def test_after_a_start_of_the_machine_older_requests_count_as_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last commits may be missing then, since none of them is synced."""
    path = tmp_path / "nonces.sqlite"
    nonces = SqliteNonces(path)
    await nonces.take("a", "1", NOW, signed_ms=NOW, is_known=True)
    await nonces.close()
    monkeypatch.setattr(_sqlite_nonces, "_BOOT_ID", tmp_path / "boot")
    (tmp_path / "boot").write_text("another start")

    for again in (1, 2):
        nonces = SqliteNonces(path)
        later = NOW + 60_000 * again
        old = await nonces.take("a", f"old{again}", later, signed_ms=NOW + 59_999, is_known=True)
        new = await nonces.take("a", f"new{again}", later, signed_ms=NOW + 60_000, is_known=True)
        await nonces.close()
        assert (old, new) == ("used", "fresh")


async def test_requests_from_before_a_process_count_as_used() -> None:
    nonces = MemoryNonces(since_ms=NOW)

    assert await nonces.take("a", "1", NOW, signed_ms=NOW - 1, is_known=True) == "used"
    assert await nonces.take("a", "1", NOW, signed_ms=NOW, is_known=True) == "fresh"


async def test_the_file_names_nobody(tmp_path: Path) -> None:
    path = tmp_path / "nonces.sqlite"
    nonces = SqliteNonces(path)
    await nonces.take("a-signer-of-note", "a-nonce-of-note", NOW, signed_ms=NOW, is_known=True)
    await nonces.close()

    assert b"of-note" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


_NAMES = [
    "before",
    "after",
    "in the child",
    "one",
    "two",
    "three",
    *(f"name{n}" for n in range(10_000)),
]
_BY_DIGEST = {nonce_digest(name, "n"): name for name in _NAMES}


class Names:
    """A nonce file as a set of the names that the contracts write."""

    def __init__(self, path: Path) -> None:
        self._nonces = SqliteNonces(path, limits=NonceLimits(total=10**6))

    async def write(self, name: str) -> None:
        await self._nonces.take(name, "n", NOW, signed_ms=NOW, is_known=True)

    async def names(self) -> list[str]:
        rows = await self._nonces._opened().submit(
            lambda connection: connection.execute("SELECT digest FROM nonce").fetchall()
        )
        return [_BY_DIGEST[digest] for (digest,) in rows]

    async def close(self) -> None:
        await self._nonces.close()


class TestFile(SqliteFileContract, ReplacedFileContract, ForkContract, FullDiskContract):
    error = StoreError
    is_async = True
    # A commit is not synced, on purpose: after a start of the machine older requests count as used.
    test_an_acknowledged_write_survives_a_power_cut = None

    @pytest.fixture
    def open_store(self) -> OpenStore:
        return Names

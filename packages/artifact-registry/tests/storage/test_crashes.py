"""Death at each step of a put, and at any moment: no name ever holds other bytes than its own."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.storage import LocalBackend
from starfish_artifact_registry.testing import content, read_all, stream_of
from starfish_protocol.address import ContentAddress

ROUNDS = int(os.environ.get("STARFISH_KILLS", "3"))
"""Kills from outside; the full number is 100."""
SIZES = (1000, 13 * 1024 * 1024)
"""Written in one visit to a thread, and block by block."""

DIE = "os.kill(os.getpid(), 9)"
STEPS = {
    "before anything is written": f"os.write = lambda *a: {DIE}",
    "half written": (
        "real = os.write\n"
        "def write(descriptor, data):\n"
        "    real(descriptor, data[: len(data) // 2])\n"
        f"    {DIE}\n"
        "os.write = write"
    ),
    "written and not synced": f"os.utime = lambda *a, **k: {DIE}",
    "synced and not renamed": f"os.rename = lambda *a, **k: {DIE}",
    "renamed and the folder not synced": (
        f"real = os.rename\ndef rename(*a, **k):\n    real(*a, **k)\n    {DIE}\nos.rename = rename"
    ),
    "stored and nobody told": (
        f"import {LocalBackend.__module__} as module\n"
        "real = module.ContentFolder.keep\n"
        "def keep(*a):\n"
        "    real(*a)\n"
        f"    {DIE}\n"
        "module.ContentFolder.keep = keep"
    ),
}
"""What a child does to itself at each step, in the order of the steps."""
NAMED = {"renamed and the folder not synced", "stored and nobody told"}
"""After these the content may be found."""


PROGRAM = """
import asyncio, os, random, sys
from starfish_artifact_registry.storage import LocalBackend

def content(size, seed=7):
    return random.Random(seed).randbytes(size)

async def stream_of(data):
    for start in range(0, len(data), 64 * 1024):
        await asyncio.sleep(0)
        yield data[start : start + 64 * 1024]

backend = LocalBackend(sys.argv[1])
"""
"""The test kit's functions once more: with it would come pytest, which takes a second to import."""


def child_that_puts(root: Path, body: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(body), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def assert_sound(backend: LocalBackend) -> set[ContentAddress]:
    """Every name holds its own bytes; gives the names."""
    dataplane = InProcessDataPlane(backend)
    found = {entry.address async for entry in backend.list()}
    for address in found:
        assert await dataplane.rehash(address) == address
    return found


@pytest.mark.parametrize("step", STEPS)
async def test_death_at_each_step_leaves_the_whole_or_nothing(tmp_path: Path, step: str) -> None:
    children = [
        child_that_puts(
            tmp_path / str(size),
            f"{STEPS[step]}\nasyncio.run(backend.put(stream_of(content({size}))))",
        )
        for size in SIZES
    ]
    for size, child in zip(SIZES, children, strict=True):
        _, error = await asyncio.to_thread(child.communicate, timeout=50)
        assert child.returncode == -signal.SIGKILL, error

        data = content(size)
        named = {ContentAddress.of(data)} if step in NAMED else set()
        backend = LocalBackend(tmp_path / str(size))
        assert await assert_sound(backend) == named
        assert await backend.sweep() == (0 if step in NAMED else 1)
        assert await backend.sweep() == 0
        assert await assert_sound(backend) == named

        again = await backend.put(stream_of(data))
        assert again.was_present == (step in NAMED)
        assert await read_all(backend, again.address) == data


@pytest.mark.timeout(600)
async def test_what_was_acknowledged_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    body = """
        async def put(worker):
            for number in range(10**6):
                seed = os.getpid() * 1000 + worker * 17 + number % 40
                size = 6 * 1024 * 1024 if number % 5 == 4 else 3000
                stored = await backend.put(stream_of(content(size, seed)))
                print(stored.address, flush=True)
        async def main():
            await asyncio.gather(*map(put, range(8)))
        asyncio.run(main())
        """
    chance = random.Random(1)
    backend = LocalBackend(tmp_path)
    for _ in range(ROUNDS):
        child = await asyncio.to_thread(child_that_puts, tmp_path, body)
        assert child.stdout
        assert child.stderr
        lines = [await asyncio.to_thread(child.stdout.readline)]
        await asyncio.to_thread(time.sleep, chance.uniform(0, 0.3))
        child.kill()
        # Not communicate(): it passes over what readline() has read ahead.
        with child:
            printed = await asyncio.to_thread(child.stdout.read)
            error = await asyncio.to_thread(child.stderr.read)
        assert not error, error
        lines += printed.split("\n")[:-1]
        acknowledged = {ContentAddress.parse(line.strip()) for line in lines}

        assert acknowledged <= await assert_sound(backend)
        await backend.sweep()
        assert not any((tmp_path / "incoming").iterdir())
        for address in acknowledged:
            await backend.delete(address)


async def test_a_sweep_leaves_the_writes_of_another_process_alone(tmp_path: Path) -> None:
    body = """
        async def stream():
            async for chunk in stream_of(content(9_000_000)):
                yield chunk
            print("waiting", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            yield b"end"
        print((asyncio.run(backend.put(stream()))).address)
        """
    backend = LocalBackend(tmp_path)
    child = await asyncio.to_thread(child_that_puts, tmp_path, body)
    assert child.stdout
    assert await asyncio.to_thread(child.stdout.readline) == "waiting\n"

    assert await backend.sweep() == 0
    printed, error = await asyncio.to_thread(child.communicate, "go on\n")
    assert not error, error
    address = ContentAddress.parse(printed.strip())
    assert await read_all(backend, address) == content(9_000_000) + b"end"


async def test_two_processes_put_the_same_content_at_once(tmp_path: Path) -> None:
    body = """
        async def main():
            for number in range(40):
                size = 5_000_000 if number % 20 == 0 else 2000
                stored = await asyncio.gather(*(
                    backend.put(stream_of(content(size, number))) for _ in range(3)))
                print(sum(not one.was_present for one in stored), flush=True)
        asyncio.run(main())
        """
    children = [await asyncio.to_thread(child_that_puts, tmp_path, body) for _ in range(2)]
    outputs = [await asyncio.to_thread(child.communicate) for child in children]
    assert [error for _, error in outputs] == ["", ""]

    wrote = [sum(map(int, lines)) for lines in zip(*(o.split() for o, _ in outputs), strict=True)]
    assert wrote == [1] * 40  # exactly one of six wrote each
    backend = LocalBackend(tmp_path)
    assert len(await assert_sound(backend)) == 40
    assert not any((tmp_path / "incoming").iterdir())

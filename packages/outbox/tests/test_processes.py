"""Several processes share one file."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from starfish_outbox import DrainResult, OutboxEntry, OutboxQueue, SqliteOutbox, drain_outbox
from starfish_outbox._sqlite.process import is_certainly_dead, process_token

DRAINER = """
    import asyncio, sys
    from starfish_outbox import OutboxQueue, SqliteOutbox, drain_outbox

    async def send(entry):
        print(entry.id, flush=True)
        await asyncio.sleep(0.0005)
        if entry.id.endswith("3") and entry.attempts == 0:
            raise OSError("once")

    async def main():
        async with SqliteOutbox(sys.argv[1]) as outbox:
            queue = OutboxQueue(outbox)
            await queue.hydrate("k")
            for _ in range(200):
                lane = (lambda entry: entry.item % 10) if sys.argv[2] == "lanes" else None
                await drain_outbox(queue, send, concurrency=4, lane=lane)
                if not queue.get():
                    break

    asyncio.run(main())
"""
HOLDER = """
    import asyncio, sys
    from starfish_outbox import OutboxQueue, SqliteOutbox, drain_outbox

    async def send(entry):
        print("sending", flush=True)
        await asyncio.sleep(60)

    async def main():
        queue = OutboxQueue(SqliteOutbox(sys.argv[1]))
        await queue.hydrate("k")
        await drain_outbox(queue, send)

    asyncio.run(main())
"""


async def fill(path: Path, count: int) -> None:
    async with SqliteOutbox(path) as outbox:
        queue = OutboxQueue(outbox)
        await queue.hydrate("k")
        await asyncio.gather(*(queue.enqueue(f"n{n}", n) for n in range(count)))


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("order", ["lanes", "free"])
def test_processes_that_drain_one_file_never_send_an_entry_twice(
    tmp_path: Path, order: str
) -> None:
    path = tmp_path / "o.sqlite"
    asyncio.run(fill(path, 300))
    drainers = [start(DRAINER, str(path), order) for _ in range(3)]
    outputs = [drainer.communicate(timeout=50)[0].split() for drainer in drainers]

    assert [drainer.returncode for drainer in drainers] == [0, 0, 0]
    tries = Counter(entry_id for output in outputs for entry_id in output)
    assert tries == {f"n{n}": 2 if n % 10 == 3 else 1 for n in range(300)}
    assert sum(bool(output) for output in outputs) >= 2


def test_the_claim_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    asyncio.run(fill(path, 1))
    holder = start(HOLDER, str(path))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "sending\n"
    sent: list[str] = []

    async def send(entry: OutboxEntry) -> None:
        sent.append(entry.id)

    async def drain_while_held_and_after() -> list[DrainResult]:
        async with SqliteOutbox(path) as outbox:
            queue = OutboxQueue(outbox)
            await queue.hydrate("k")
            held = await drain_outbox(queue, send)
            os.kill(holder.pid, signal.SIGKILL)
            await asyncio.to_thread(holder.wait)
            return [held, await drain_outbox(queue, send)]

    results = asyncio.run(drain_while_held_and_after())
    holder.stdout.close()
    assert results == [DrainResult(0, 0), DrainResult(1, 0)]
    assert sent == ["n0"]


def test_only_what_is_known_to_be_gone_is_called_dead() -> None:
    token = process_token()
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from starfish_outbox._sqlite.process import process_token as t; print(t())",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    gone = child.communicate(timeout=30)[0].strip()

    assert not is_certainly_dead(token)
    assert is_certainly_dead(gone)
    for unknown in ("", "elsewhere" + gone, "x/y/z", "None", f"/{os.getpid()}/"):
        assert not is_certainly_dead(unknown)

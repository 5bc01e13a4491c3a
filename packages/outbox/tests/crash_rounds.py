"""Kill a process that enqueues and drains, again and again; print what became of its writes.

Run as ``python crash_rounds.py sqlite|files FOLDER ROUNDS SEED``. Each round is a forked child that
reports to a pipe: ``E id`` an enqueue returned, ``S id`` a write was sent, ``D id`` its drain went on.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from starfish_outbox import FileCache, OutboxEntry, OutboxQueue, SqliteOutbox, drain_outbox


async def live(kind: str, folder: Path, round_number: int, report: int, *, last: bool) -> None:
    def tell(what: str, entry_id: str) -> None:
        os.write(report, f"{what} {entry_id}\n".encode())

    storage = SqliteOutbox(folder / "o.sqlite") if kind == "sqlite" else FileCache(folder)
    queue = OutboxQueue(storage)
    await queue.hydrate("k")
    tell("H", str(len(queue.quarantined)))
    under_way = ""

    async def send(entry: OutboxEntry) -> None:
        nonlocal under_way
        under_way = entry.id
        tell("S", entry.id)
        await asyncio.sleep(0)

    async def enqueue(lane: int) -> None:
        for number in range(10**9):
            entry_id = f"{round_number}-{lane}-{number}"
            await queue.enqueue(entry_id, {"n": number, "text": "x" * 100})
            tell("E", entry_id)
            if number % 7 == 0:
                await asyncio.sleep(0.001)

    async def drain() -> None:
        while True:
            await drain_outbox(queue, send, on_progress=lambda _: tell("D", under_way))
            await asyncio.sleep(0)
            if last and not queue.get():
                return

    if last:
        await drain()
        return
    await asyncio.gather(*(enqueue(lane) for lane in range(3)), drain())


def play(kind: str, folder: Path, round_number: int, wait_s: float | None) -> list[list[str]]:
    """One life: until it is killed after ``wait_s``, or until the queue is empty."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        asyncio.run(live(kind, folder, round_number, write_end, last=wait_s is None))
        os._exit(0)
    os.close(write_end)
    os.set_blocking(read_end, True)
    told = os.read(read_end, 65536)
    if wait_s is not None:
        end = time.monotonic() + wait_s
        os.set_blocking(read_end, False)
        while time.monotonic() < end:
            try:
                told += os.read(read_end, 65536)
            except BlockingIOError:
                time.sleep(0.0005)
        os.kill(pid, signal.SIGKILL)
        os.set_blocking(read_end, True)
    while chunk := os.read(read_end, 65536):
        told += chunk
    os.close(read_end)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"round {round_number} ended with {status}")
    return [line.split() for line in told.decode().splitlines()]


def main(kind: str, folder: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    longest_s = 0.03 if kind == "sqlite" else 0.1  # a file write takes several fsyncs
    lives = [play(kind, folder, n, rng.uniform(0.0, longest_s)) for n in range(rounds)]
    lives.append(play(kind, folder, rounds, None))
    acknowledged = {entry_id for life in lives for what, entry_id in life if what == "E"}
    sent = Counter(entry_id for life in lives for what, entry_id in life if what == "S")
    finished: set[str] = set()
    again_after_done = twice_in_a_life = quarantined = 0
    for life in lives:
        in_this_life: set[str] = set()
        for what, entry_id in life:
            if what == "S":
                again_after_done += entry_id in finished
                twice_in_a_life += entry_id in in_this_life
                in_this_life.add(entry_id)
            elif what == "D":
                finished.add(entry_id)
            elif what == "H":
                quarantined += int(entry_id)
    sys.stdout.write(
        json.dumps(
            {
                "rounds": rounds,
                "acknowledged": len(acknowledged),
                "lost": len(acknowledged - sent.keys()),
                "sent": sum(sent.values()),
                "sent_again_after_a_crash": sum(count - 1 for count in sent.values()),
                "most_sends_of_one": max(sent.values(), default=0),
                "sent_again_after_done": again_after_done,
                "sent_twice_in_a_life": twice_in_a_life,
                "quarantined": quarantined,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

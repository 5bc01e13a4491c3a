"""Kill processes that enqueue and drain, again and again; print what became of their writes.

Run as ``python crash_rounds.py sqlite|files FOLDER ROUNDS SEED``. A round of ``sqlite`` has three processes on
one queue, one of ``files`` a single one; each is a forked child that is killed at a moment of its own and
reports to a pipe, with the time: ``E id`` an enqueue returned, ``S id`` a write was sent, ``D id`` its drain
went on.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from starfish_outbox import FileCache, OutboxEntry, OutboxQueue, SqliteOutbox, drain_outbox

PROCESSES = {"sqlite": 3, "files": 1}
LONGEST_S = {"sqlite": 0.06, "files": 0.1}
"""A file write takes several fsyncs; three processes share one file."""

DIE_YOUNG = 0.25
"""Of the processes, those whose time counts from the fork: many of them die while they open the file."""


@dataclass
class Life:
    """A process from its fork to its end."""

    pid: int
    pipe: int
    kill_after_s: float | None
    """``None`` for one that ends when the queue is empty."""
    since_s: float | None = None
    """From when on that counts: the fork, or the first report."""
    killed_ns: float = float("inf")
    told: bytes = b""

    def is_due(self) -> bool:
        if self.kill_after_s is None or self.since_s is None:
            return False
        return time.monotonic() >= self.since_s + self.kill_after_s

    def reports(self) -> list[tuple[str, str, int]]:
        whole = self.told.rpartition(b"\n")[0]  # a kill may cut the last line off
        return [
            (w, i, int(t)) for w, i, t in (line.split() for line in whole.decode().splitlines())
        ]


@dataclass
class Outcome:
    """What became of all writes."""

    acknowledged: set[str] = field(default_factory=set[str])
    sends: dict[str, list[tuple[int, Life]]] = field(default_factory=lambda: defaultdict(list))
    finished_ns: dict[str, int] = field(default_factory=dict[str, int])
    quarantined: int = 0

    def take(self, life: Life) -> None:
        for what, entry_id, at_ns in life.reports():
            if what == "E":
                self.acknowledged.add(entry_id)
            elif what == "S":
                self.sends[entry_id].append((at_ns, life))
            elif what == "D":
                self.finished_ns[entry_id] = at_ns
            else:
                self.quarantined += int(entry_id)

    def report(self, rounds: int, kills: int) -> dict[str, int]:
        again_after_done = without_a_crash = 0
        for entry_id, sends in self.sends.items():
            sends.sort(key=lambda send: send[0])
            done_ns = self.finished_ns.get(entry_id, float("inf"))
            for index, (at_ns, _) in enumerate(sends):
                again_after_done += at_ns > done_ns
                without_a_crash += any(life.killed_ns > at_ns for _, life in sends[:index])
        sent = sum(map(len, self.sends.values()))
        return {
            "rounds": rounds,
            "kills": kills,
            "acknowledged": len(self.acknowledged),
            "lost": len(self.acknowledged - self.sends.keys()),
            "sent": sent,
            "sent_again_after_a_crash": sent - len(self.sends),
            "sent_again_after_done": again_after_done,
            "sent_twice_without_a_crash": without_a_crash,
            "quarantined": self.quarantined,
        }


async def live(kind: str, folder: Path, name: str, pipe: int, *, last: bool) -> None:
    def tell(what: str, entry_id: str) -> None:
        os.write(pipe, f"{what} {entry_id} {time.monotonic_ns()}\n".encode())

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
            entry_id = f"{name}-{lane}-{number}"
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


def begin(kind: str, folder: Path, name: str, kill_after_s: float | None) -> Life:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        asyncio.run(live(kind, folder, name, write_end, last=kill_after_s is None))
        os._exit(0)
    os.close(write_end)
    os.set_blocking(read_end, False)
    return Life(pid, read_end, kill_after_s)


def watch(lives: Sequence[Life]) -> None:
    """Read what they tell, kill each in its time, and wait for all."""
    open_ = list(lives)
    while open_:
        for life in tuple(open_):
            try:
                chunk = os.read(life.pipe, 1 << 20)
            except BlockingIOError:
                chunk = None
            if chunk:
                life.told += chunk
                life.since_s = time.monotonic() if life.since_s is None else life.since_s
            if life.is_due() and life.killed_ns == float("inf"):
                life.killed_ns = time.monotonic_ns()
                os.kill(life.pid, signal.SIGKILL)
            if chunk == b"":
                open_.remove(life)
                end(life)
        time.sleep(0.0005)


def end(life: Life) -> None:
    os.close(life.pipe)
    _, status = os.waitpid(life.pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"process {life.pid} ended with {status}")


def play(kind: str, folder: Path, rounds: int, rng: random.Random) -> Iterable[Life]:
    for number in range(rounds):
        lives = [
            begin(kind, folder, f"{number}.{i}", rng.uniform(0.0, LONGEST_S[kind]))
            for i in range(PROCESSES[kind])
        ]
        for life in lives:
            if rng.random() < DIE_YOUNG:
                life.since_s = time.monotonic()
        watch(lives)
        yield from lives
    last = begin(kind, folder, "last", None)
    watch([last])
    yield last


def main(kind: str, folder: Path, rounds: int, seed: int) -> None:
    outcome, kills = Outcome(), 0
    for life in play(kind, folder, rounds, random.Random(seed)):
        outcome.take(life)
        kills += life.killed_ns != float("inf")
    sys.stdout.write(json.dumps(outcome.report(rounds, kills)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

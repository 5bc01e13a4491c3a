"""10,000 enqueues through a `LocalCache`, beside a queue that serialises the whole list each time.

The rival keeps the same array in the same cache and does nothing else: no copy, no check, no lock.
Both are measured in blocks at the same lengths; the rival's are sampled, as it takes minutes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from starfish_outbox import OutboxQueue
from starfish_outbox.testing import MemoryCache

ENQUEUES = 10_000
BLOCK = 500
SAMPLE = 10
WANTED = 5.0
ITEM = {
    "path": "notes/1",
    "body": {"text": "bread, milk, " * 8, "done": False, "n": 5},
    "baseHash": "a" * 64,
}


class WholeList:
    def __init__(self, cache: MemoryCache) -> None:
        self.cache = cache
        self.entries: list[dict[str, object]] = []

    async def enqueue(self, entry_id: str, item: object) -> None:
        entry = {"id": entry_id, "item": item, "status": "queued", "attempts": 0, "enqueuedAt": 1}
        self.entries.append(entry)
        await self.cache.set_item("k", json.dumps(self.entries))


async def main() -> int:
    ours_cache, rival = MemoryCache(), WholeList(MemoryCache())
    ours = OutboxQueue(ours_cache, now_ms=lambda: 1)
    await ours.hydrate("k")
    ours_s = rival_s = 0.0
    for first in range(0, ENQUEUES, BLOCK):
        start = time.perf_counter()
        for number in range(first, first + BLOCK):
            await ours.enqueue(f"n{number}", ITEM)
        ours_s += time.perf_counter() - start
        start = time.perf_counter()
        for number in range(first, first + SAMPLE):
            await rival.enqueue(f"n{number}", ITEM)
        rival_s += (time.perf_counter() - start) * BLOCK / SAMPLE
        rest = range(first + SAMPLE, first + BLOCK)
        rival.entries += [{**rival.entries[0], "id": f"n{number}"} for number in rest]
    await rival.enqueue("end", ITEM)
    await ours.enqueue("end", ITEM)
    if json.loads(ours_cache.values["k"]) != json.loads(rival.cache.values["k"]):
        raise SystemExit("the two wrote different queues: nothing to compare")
    print(f"{'fragments joined (ours)':45} {ENQUEUES} enqueues {ours_s:8.2f} s")
    print(f"{'json.dumps of the whole list, sampled':45} {ENQUEUES} enqueues {rival_s:8.2f} s")
    ratio = rival_s / ours_s
    verdict = "ok" if ratio >= WANTED else "MISSED"
    print(f"10,000 through a LocalCache: measured {ratio:.1f}x, wanted {WANTED:.1f}x  {verdict}")
    return int(ratio < WANTED)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

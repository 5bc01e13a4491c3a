"""Folding into one list, beside a fold that reads, parses and writes the whole list each time.

Both run in this process on the same kind of store, turn by turn; figures are medians. The plain
fold takes about a minute for 10,000 appends, so both are measured at eleven lengths from 0 to
10,000 and summed up in between by the trapezoidal rule.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson

from starfish_projection import (
    Projection,
    ProjectionPlugin,
    ProjectionSet,
    create_projection_server_plugin,
)
from starfish_projection._list_storage import ListStorage
from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import WriteEvent
from starfish_server.protocol.push import push
from starfish_server.protocol.types import PushSuccess
from starfish_server.storage.base import AbstractObjectStore
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore

_ENTRIES = 10_000
_LENGTHS = range(0, _ENTRIES + 1, 1000)
_SAMPLES = 15
_ROUNDS = 5
_CONCURRENT = 64

Fold = Callable[[WriteEvent], Awaitable[None]]
VIEW = Projection("notes", "list", lambda event: ProjectionSet(event.params["note"], event.body))


async def written(store: AbstractObjectStore, number: int) -> WriteEvent:
    """A document of one note in the store; its entry has about 100 bytes."""
    body = {"title": f"Note {number:08d}", "text": "x" * 38}
    answer = await push(store, f"notes/n{number}", body, None)
    assert isinstance(answer, PushSuccess)
    return WriteEvent(
        "notes",
        answer.hash,
        answer.timestamp,
        {"note": f"n{number}"},
        body,
        document_key=f"notes/n{number}",
    )


def plugin_of(store: AbstractObjectStore) -> ProjectionPlugin:
    return create_projection_server_plugin(store=store, projections=[VIEW])


def remembering(store: AbstractObjectStore) -> Fold:
    hook = plugin_of(store).after_write
    assert hook is not None
    return hook


def plain(store: AbstractObjectStore) -> Fold:
    lock = asyncio.Lock()

    async def fold(event: WriteEvent) -> None:
        async with lock:
            found = await store.get_with_etag("list")
            items = [] if found is None else orjson.loads(found[0])["data"]["items"]
            entry = {"id": event.params["note"], "value": event.body}
            place = next((i for i, item in enumerate(items) if item["id"] == entry["id"]), None)
            if place is None:
                items.append(entry)
            else:
                items[place] = entry
            data = {"items": items}
            document = {"v": 1, "data": data, "ts": 0, "hash": compute_hash(data)}
            etag = None if found is None else found[1]
            assert await store.put_if_match("list", orjson.dumps(document).decode(), etag)

    return fold


async def appends(fold: Fold, events: list[WriteEvent]) -> float:
    """Median seconds of one append."""
    seconds: list[float] = []
    for event in events:
        start = time.perf_counter()
        await fold(event)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


async def by_length() -> dict[int, tuple[float, float]]:
    """Seconds of one append at each length: plain fold, plugin."""
    stores = [MemoryObjectStore(), MemoryObjectStore()]
    folds = [plain(stores[0]), remembering(stores[1])]
    fill = plugin_of(stores[0]).after_write
    assert fill is not None
    figures: dict[int, tuple[float, float]] = {}
    number = 0
    for length in _LENGTHS:
        while number < length:
            await fill(await written(stores[0], number))
            await folds[1](await written(stores[1], number))
            number += 1
        batches = [[await written(store, number + i) for i in range(_SAMPLES)] for store in stores]
        number += _SAMPLES
        slow, fast = [
            await appends(fold, batch) for fold, batch in zip(folds, batches, strict=True)
        ]
        figures[length] = (slow, fast)
    assert await text_of(stores[0]) == await text_of(stores[1])
    return figures


async def text_of(store: AbstractObjectStore) -> object:
    lists = ListStorage(store, pieces_above_bytes=None)
    return orjson.loads(await lists.whole("list", await store.get_string("list") or ""))["data"]


def total(seconds: list[float]) -> float:
    """Seconds of all appends, from those measured at `_LENGTHS`."""
    steps = itertools.pairwise(seconds)
    return sum((before + after) / 2 * _LENGTHS.step for before, after in steps)


async def growth() -> tuple[float, float]:
    """Seconds of one append to a list that is empty at first, and to one of 10,000 entries."""
    store = MemoryObjectStore()
    long_fold = remembering(store)
    for number in range(_ENTRIES):
        await long_fold(await written(store, number))
    at_first: list[float] = []
    at_last: list[float] = []
    for round_ in range(_ROUNDS):
        short_store = MemoryObjectStore()
        events = [await written(short_store, number) for number in range(100)]
        at_first.append(await appends(remembering(short_store), events))
        more = [await written(store, _ENTRIES + round_ * 100 + number) for number in range(100)]
        at_last.append(await appends(long_fold, more))
    return statistics.median(at_first), statistics.median(at_last)


async def rewrites(folder: Path) -> tuple[int, float]:
    """List documents written for 64 pushes at once on SQLite, and seconds for all of them."""
    store = SqliteObjectStore(folder / "documents.sqlite")
    plugin = plugin_of(store)
    hook = plugin.after_write
    assert hook is not None

    async def one(number: int) -> None:
        await hook(await written(store, number))

    start = time.perf_counter()
    await asyncio.gather(*map(one, range(_CONCURRENT)))
    seconds = time.perf_counter() - start
    text = await store.get_string("list")
    await store.close()
    assert len(orjson.loads(text or "")["data"]["items"]) == _CONCURRENT
    return plugin.stats().writes, seconds


def verdict(figure: str, measured: float, wanted: float, *, met: bool) -> bool:
    print(f"{figure}: measured {measured:.1f}x, wanted {wanted:.1f}x  {'ok' if met else 'MISSED'}")
    return met


def main() -> int:
    figures = asyncio.run(by_length())
    print(f"{'entries':>8} {'plain fold':>12} {'plugin':>12}   microseconds an append, in memory")
    for length, (slow, fast) in figures.items():
        print(f"{length:>8} {slow * 1e6:>12.0f} {fast * 1e6:>12.0f}")
    first, last = asyncio.run(growth())
    print(
        f"an append of 100 bytes: {first * 1e6:.0f} us at first, {last * 1e6:.0f} us at {_ENTRIES}"
    )
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [asyncio.run(rewrites(Path(folder) / str(round_))) for round_ in range(_ROUNDS)]
    writes = max(count for count, _ in outcomes)
    milliseconds = statistics.median(seconds for _, seconds in outcomes) * 1e3
    print(
        f"{_CONCURRENT} pushes at once on SQLite: at most {writes} rewrites, {milliseconds:.0f} ms"
    )
    print()
    speedup = total([slow for slow, _ in figures.values()]) / total(
        [fast for _, fast in figures.values()]
    )
    met = [
        verdict("10,000 appends, throughput", speedup, 10, met=speedup >= 10),
        verdict("append at 10,000 entries, time", last / first, 1.5, met=last / first < 1.5),
        verdict(
            "64 pushes at once, pushes a rewrite",
            _CONCURRENT / writes,
            _CONCURRENT / 4,
            met=writes <= 4,
        ),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Canonical JSON: ours beside a straightforward recursive writer and the reference package.

Caveats first: one process, one thread; the document has what application data has (ids, hashes,
texts, prices, coordinates, nested lists), some of its floats are whole numbers, and nothing in it
needs the slow writer. All rivals write the same bytes, which is checked before the clock starts.
"""

import hashlib
import json
import math
import random
import statistics
import sys
import time
import uuid
from collections.abc import Callable

import rfc8785

from starfish_protocol._stringify import write_canonical
from starfish_protocol.hash import compute_hash, stable_stringify

WANTED = 10.0
ROUNDS = 15


def recursive(value: object) -> str:
    """What one writes on a first afternoon, correct for every value of these documents."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        members = [
            json.dumps(key, ensure_ascii=False) + ":" + recursive(value[key]) for key in keys
        ]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([recursive(item) for item in value]) + "]"
    raise TypeError(type(value))


def number(value: float) -> str:
    value = float(value)
    if not math.isfinite(value):
        return "null"
    if value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    text = repr(value)
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    power = int(exponent)
    if -7 < power < 0:
        return f"{value:.{len(mantissa.replace('.', '').lstrip('-')) - power - 1}f}"
    return f"{mantissa}e{power:+d}" if power >= 21 or power < 0 else format(value, ".0f")


def record(rng: random.Random) -> dict[str, object]:
    return {
        "id": str(uuid.UUID(int=rng.getrandbits(128))),
        "title": f"Ärger mit Station {rng.randrange(1000)}\n„später“",
        "price": round(rng.uniform(0, 100), 2),
        "whole": float(rng.randrange(1000)),
        "position": [rng.uniform(-90, 90), rng.uniform(-180, 180)],
        "count": rng.randrange(10**6),
        "done": rng.random() < 0.5,
        "parent": None,
        "at": 1_700_000_000_000 + rng.randrange(10**10),
        "tags": ["red", "green \\ blue", ""],
        "meta": {"v": 2, "a": {"b": [1, [2.5, {"c": "d"}]]}},
        "hash": f"{rng.getrandbits(256):064x}",
    }


def document(size: int) -> dict[str, object]:
    rng = random.Random(7)
    items: list[object] = []
    result: dict[str, object] = {"items": items, "total": 1}
    while len(stable_stringify(result)) < size:
        items.append(record(rng))
    return result


def medians(rivals: dict[str, Callable[[object], object]], value: object) -> dict[str, float]:
    """Seconds a call, measured in turns (A B A B ...) so that a noisy moment hits everybody."""
    repeats = {}
    for name, call in rivals.items():
        start = time.perf_counter()
        call(value)
        repeats[name] = max(1, int(0.02 / (time.perf_counter() - start)))
    samples: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(ROUNDS):
        for name, call in rivals.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call(value)
            samples[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(times) for name, times in samples.items()}


def main() -> int:
    rivals: dict[str, Callable[[object], object]] = {
        "stable_stringify": stable_stringify,
        "compute_hash": compute_hash,
        "our slow writer": write_canonical,
        "recursive": recursive,
        "recursive and sha256": lambda value: hashlib.sha256(recursive(value).encode()).hexdigest(),
        "rfc8785": rfc8785.dumps,
    }
    ratios = {}
    for label, size in (("100 KB", 100_000), ("1 KB", 700)):
        value = document(size)
        text = recursive(value)
        if (
            not stable_stringify(value)
            == write_canonical(value)
            == rfc8785.dumps(value).decode()
            == text
        ):
            print("the rivals disagree; nothing was measured")
            return 1
        times = medians(rivals, value)
        print(f"{label} document ({len(text.encode())} bytes)")
        for name, seconds in times.items():
            print(f"  {name:22} {seconds * 1e6:10.1f} us {len(text) / seconds / 1e6:8.1f} MB/s")
        ratios[label] = (
            times["recursive"] / times["stable_stringify"],
            times["recursive and sha256"] / times["compute_hash"],
        )
    ratio = ratios["100 KB"][0]
    verdict = "ok" if ratio >= WANTED else "MISSED"
    print(f"stable_stringify, 100 KB: measured {ratio:.1f}x, wanted {WANTED:.1f}x  {verdict}")
    print(f"stable_stringify, 1 KB: measured {ratios['1 KB'][0]:.1f}x, no figure wanted")
    print(f"compute_hash, 100 KB: measured {ratios['100 KB'][1]:.1f}x, no figure wanted")
    print(f"compute_hash, 1 KB: measured {ratios['1 KB'][1]:.1f}x, no figure wanted")
    return 0 if ratio >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())

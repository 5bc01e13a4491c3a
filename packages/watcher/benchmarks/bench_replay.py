"""Full replay of one entity: this store's two lanes beside the `eventsourcing` library on SQLite.

Caveats. Each replay folds all events of one entity into a sum; the payloads hold the same values.
Theirs runs four ways: rebuilding the aggregate as their users do, the mapper by hand over the
recorder's rows, notifications with their payload decoded by hand, and the recorder's rows with a
decoder of our choice, which is the fastest that leaves their event objects out. The fastest
counts. Ours counts in the raw lane, which decodes the payload in the projection, as theirs must.
Runs alternate, and medians are compared.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from starfish_watcher import Coordinate, EventKind, EventStore, Projection

KIND = EventKind.custom(0xF, 1)
EVENTS = 100_000
ROUNDS = 5
WANTED_RATE = 300_000
NOTE = "forty bytes of text that say very little"


class Sum(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Any) -> int:
        return state + event.payload["amount"]


AMOUNT = msgspec.defstruct("Amount", [("amount", int)])
DECODE = msgspec.msgpack.Decoder(AMOUNT).decode
DECODE_JSON = msgspec.json.Decoder(AMOUNT).decode


class RawSum(Sum):
    lane = "raw"

    def apply(self, state: int, event: Any) -> int:
        return state + DECODE(event.payload).amount


class Account(Aggregate):
    def __init__(self) -> None:
        self.total = 0
        self.note = ""

    @event("Credited")
    def credit(self, amount: int, note: str) -> None:
        self.total += amount
        self.note = note


def report(rates: dict[str, list[float]]) -> int:
    """Print the table and the figures; 1 when one is missed."""
    print(f"eventsourcing {version('eventsourcing')}, {EVENTS:,} events of one entity")
    medians = {way: statistics.median(measured) for way, measured in rates.items()}
    for way, rate in medians.items():
        print(f"{way:40} {rate:12,.0f} events/s")
    ours = medians["ours, raw lane"]
    best = max(rate for way, rate in medians.items() if way.startswith("eventsourcing"))
    figures = {
        f"replay of {WANTED_RATE:,} events/s, raw lane": (ours / WANTED_RATE, 1.0),
        "replay against the fastest of eventsourcing": (ours / best, 2.0),
    }
    for label, (measured, wanted) in figures.items():
        verdict = "ok" if measured >= wanted else "MISSED"
        print(f"{label}: measured {measured:.2f}x, wanted {wanted:.2f}x  {verdict}")
    return 0 if all(measured >= wanted for measured, wanted in figures.values()) else 1


def timed(replay: Callable[[], int], expected: int) -> float:
    started = time.perf_counter()
    total = replay()
    seconds = time.perf_counter() - started
    assert total == expected, (total, expected)
    return EVENTS / seconds


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = EventStore.open(folder / "ours.db", durability="none")
        coordinate = Coordinate("account:1", "eu")
        app: Application = Application(
            env={
                "PERSISTENCE_MODULE": "eventsourcing.sqlite",
                "SQLITE_DBNAME": str(folder / "theirs.db"),
            }
        )
        account = Account()
        for start in range(0, EVENTS, 2_000):
            amounts = range(start, start + 2_000)
            store.append_batch([(coordinate, KIND, {"amount": n, "note": NOTE}) for n in amounts])
            for amount in amounts:
                account.credit(amount, NOTE)
            app.save(account)
        expected = sum(range(EVENTS))

        def by_mapper() -> int:
            to_event = app.mapper.to_domain_event
            rows = app.recorder.select_events(account.id)
            return sum(getattr(to_event(row), "amount", 0) for row in rows)

        def by_notifications() -> int:
            start, total = 1, 0
            while page := app.recorder.select_notifications(start, 10_000):
                total += sum(json.loads(row.state).get("amount", 0) for row in page)
                start = page[-1].id + 1
            return total

        def by_rows() -> int:
            rows = app.recorder.select_events(account.id, gt=1)
            return sum(DECODE_JSON(row.state).amount for row in rows)

        ways: dict[str, Callable[[], int]] = {
            "ours, raw lane": lambda: store.project(RawSum(), "account:1") or 0,
            "ours, typed lane": lambda: store.project(Sum(), "account:1") or 0,
            "eventsourcing, aggregate": lambda: app.repository.get(account.id).total,
            "eventsourcing, mapper by hand": by_mapper,
            "eventsourcing, notifications by hand": by_notifications,
            "eventsourcing, rows with our decoder": by_rows,
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, replay in ways.items():
                rates[way].append(timed(replay, expected))
        store.close()
        app.close()
    return report(rates)


if __name__ == "__main__":
    sys.exit(main())

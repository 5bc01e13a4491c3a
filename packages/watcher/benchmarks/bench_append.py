"""Durable appends: this store beside the `eventsourcing` library, both on SQLite.

Caveats. Both write ahead logs with the same ``synchronous`` level, which is read back from their
connections and printed. Each of our appends is one event of about 60 bytes of msgpack; theirs is
one event of one aggregate, through ``Application.save`` as their users call it. Theirs runs with
one producer too, and the better figure counts. Runs alternate, and medians are compared.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from starfish_watcher import Coordinate, EventKind, EventStore

KIND = EventKind.custom(0xF, 1)
PRODUCERS = 64
BATCH = 256
NOTE = "forty bytes of text that say very little"
ROUNDS = 5


def in_threads(count: int, work: Callable[[int], None]) -> float:
    """Seconds until all are done."""
    ready = threading.Barrier(count + 1)

    def run(index: int) -> None:
        ready.wait()
        work(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


class Account(Aggregate):
    @event("Credited")
    def credit(self, amount: int, note: str) -> None:
        self.amount, self.note = amount, note


def their_synchronous(app: Application) -> int:
    datastore = app.factory.datastore  # type: ignore[attr-defined]
    with datastore.get_connection(commit=False) as connection:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous")
        return int(cursor.fetchone()[0])


def theirs(folder: Path, producers: int, each: int) -> tuple[float, int]:
    app = Application(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(folder / f"theirs-{time.monotonic_ns()}.db"),
            "SQLITE_LOCK_TIMEOUT": "60",
        }
    )
    level = their_synchronous(app)
    accounts = [Account() for _ in range(producers)]
    app.save(*accounts)

    def work(index: int) -> None:
        account = accounts[index]
        for amount in range(each):
            account.credit(amount, NOTE)
            app.save(account)

    seconds = in_threads(producers, work)
    app.close()
    return producers * each / seconds, level


def ours(folder: Path, producers: int, each: int) -> tuple[float, int]:
    with EventStore.open(folder / f"ours-{time.monotonic_ns()}.db") as store:

        def work(index: int) -> None:
            coordinate = Coordinate(f"account:{index}", "eu")
            for amount in range(each):
                store.append(coordinate, KIND, {"amount": amount, "note": NOTE})

        seconds = in_threads(producers, work)
        (level,) = store._log._writer.execute("PRAGMA synchronous").fetchone()  # type: ignore[attr-defined] # noqa: SLF001
    return producers * each / seconds, level


def ours_in_batches(folder: Path, batches: int) -> float:
    with EventStore.open(folder / f"batch-{time.monotonic_ns()}.db") as store:
        coordinate = Coordinate("account:1", "eu")
        started = time.perf_counter()
        for _ in range(batches):
            store.append_batch(
                [(coordinate, KIND, {"amount": n, "note": NOTE}) for n in range(BATCH)]
            )
        return batches * BATCH / (time.perf_counter() - started)


def main() -> int:
    our_many, our_one, their_many, their_one, batched = [], [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(ROUNDS):
            rate, our_level = ours(folder, PRODUCERS, 150)
            our_many.append(rate)
            rate, their_level = theirs(folder, PRODUCERS, 15)
            their_many.append(rate)
            our_one.append(ours(folder, 1, 500)[0])
            their_one.append(theirs(folder, 1, 500)[0])
            batched.append(ours_in_batches(folder, 120))
    print(f"synchronous: ours {our_level}, theirs {their_level} (2 is FULL)")
    if our_level != their_level:
        print("the levels differ, nothing can be compared")
        return 1
    rows = {
        f"ours, {PRODUCERS} producers": our_many,
        f"eventsourcing {version('eventsourcing')}, {PRODUCERS} producers": their_many,
        "ours, 1 producer": our_one,
        f"eventsourcing {version('eventsourcing')}, 1 producer": their_one,
        f"ours, batches of {BATCH}": batched,
    }
    for label, rates in rows.items():
        print(f"{label:44} {statistics.median(rates):10,.0f} events/s")
    best = max(statistics.median(their_many), statistics.median(their_one))
    ratio = statistics.median(our_many) / best
    each = statistics.median(batched) / 50_000
    print(f"durable append, {PRODUCERS} producers: measured {ratio:.1f}x, wanted 5.0x  ", end="")
    print("ok" if ratio >= 5 else "MISSED")
    print(f"batched append of 50,000 events/s: measured {each:.2f}x, wanted 1.00x  ", end="")
    print("ok" if each >= 1 else "MISSED")
    return 0 if ratio >= 5 and each >= 1 else 1


if __name__ == "__main__":
    sys.exit(main())

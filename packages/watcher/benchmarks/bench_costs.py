"""What a look, a query, an opening and a lone producer cost, each beside the thing that bounds it.

A rare region is compared with `read` of an entity with as many events, a large state with a small
one, a lone producer with `eventsourcing`, a batch with the same rows in bare sqlite3. Runs
alternate, medians are compared.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from starfish_watcher import Coordinate, EventKind, EventStore, Projection, Region

KIND, RARE = EventKind.custom(0xF, 1), EventKind.custom(0xE, 2)
EVENTS = 160_000
ROUNDS = 5
NOTE = "forty bytes of text that say very little"


class Account(Aggregate):
    @event("Credited")
    def credit(self, amount: int, note: str) -> None:
        self.amount, self.note = amount, note


class Keys(Projection[dict[str, int]]):
    """A state that shares everything with the one before but one key."""

    name = "keys"

    def initial(self) -> dict[str, int]:
        return {}

    def apply(self, state: dict[str, int], event: Any) -> dict[str, int]:
        state.update(event.payload)
        return state


class FrozenKeys(Keys):
    """The same for a state that nobody changes in place: buckets, of which one is replaced."""

    name = "frozen keys"
    frozen = True

    def initial(self) -> Any:
        return tuple({} for _ in range(1024))

    def apply(self, state: Any, event: Any) -> Any:
        changed: dict[int, dict[str, int]] = {}
        for key, value in event.payload.items():
            bucket = hash(key) % len(state)
            changed.setdefault(bucket, dict(state[bucket]))[key] = value
        buckets = list(state)
        for bucket, content in changed.items():
            buckets[bucket] = content
        return tuple(buckets)


def seconds(work: Callable[[], object], times: int = 20) -> float:
    found: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def verdict(label: str, measured: float, wanted: float, *, at_least: bool = False) -> bool:
    good = measured >= wanted if at_least else measured <= wanted
    word = "at least" if at_least else "at most"
    print(
        f"{label}: measured {measured:.2f}, wanted {word} {wanted:g}  {'ok' if good else 'MISSED'}"
    )
    return good


def rare_regions(folder: Path) -> list[bool]:
    with EventStore.open(folder / "rare.db", durability="none") as store:
        for start in range(0, EVENTS, 8000):
            store.append_batch(
                [(Coordinate(f"e:{n % 5000}", "eu"), KIND, n) for n in range(start, start + 8000)]
            )
            if start in (40_000, 120_000):
                store.append_batch(
                    [
                        (Coordinate("few:1", "eu"), KIND, 1),
                        (Coordinate("x", "rare"), KIND, 1),
                        (Coordinate("y", "eu"), RARE, 1),
                        (Coordinate("single", "eu"), KIND, 1),
                    ]
                )
        bound = seconds(lambda: store.read(entity="single"))
        print(f"read of an entity with 2 events              {bound * 1e6:10.0f} us")
        results: list[bool] = []
        for label, region in {
            "prefix": Region(entity_prefix="few"),
            "kind": Region(kind=RARE),
            "category": Region(kind=0xE),
            "scope": Region(scope="rare"),
        }.items():
            assert len(store.query(region)) == 2
            cost = seconds(lambda region=region: store.query(region))
            results.append(verdict(f"rare {label} in {EVENTS:,} events", cost / bound, 3))
        return results


def opening(folder: Path) -> list[bool]:
    path = folder / "wal.db"
    with EventStore.open(path):
        pass
    reader = sqlite3.connect(path)
    writer = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchone()
    writer.execute("CREATE TABLE filler (content BLOB)")
    while Path(f"{path}-wal").stat().st_size < 64 * 2**20:
        writer.execute("INSERT INTO filler VALUES (randomblob(1000000))")
    writer.execute("DROP TABLE filler")
    size = Path(f"{path}-wal").stat().st_size / 2**20

    def open_it() -> None:
        EventStore.open(path).close()

    cost = seconds(open_it, 5)
    reader.close()
    writer.close()
    return [verdict(f"opening beside a log of {size:.0f} MB, in ms", cost * 1000, 50)]


def large_states(folder: Path) -> list[bool]:
    results: list[bool] = []
    with EventStore.open(folder / "states.db", durability="none") as store:
        costs: dict[str, float] = {}
        for projection in (Keys, FrozenKeys):
            for count in (10, 50_000):
                entity = f"{projection.name.replace(' ', '_')}:{count}"
                here = Coordinate(entity, "eu")
                store.append(here, KIND, {f"k{n}": n for n in range(count)})
                store.project(projection, entity)

                def look(here: Coordinate = here, projection: Any = projection) -> None:
                    store.append(here, KIND, {"k1": 1})
                    store.project(projection, here.entity)

                costs[entity] = seconds(look, 15)
                print(f"append and look, {entity:28} {costs[entity] * 1e6:10.0f} us")
        ratio = costs["frozen_keys:50000"] / costs["frozen_keys:10"]
        results.append(verdict("state of 50,000 keys beside 10, frozen", ratio, 3))
        print(
            "state of 50,000 keys beside 10, changed in place: "
            f"{costs['keys:50000'] / costs['keys:10']:.0f} times, two copies a look"
        )
    return results


def producers(folder: Path) -> list[bool]:
    count = 400
    rates: dict[str, list[float]] = {"ours": [], "theirs": [], "ours 256": [], "bare 256": []}
    for number in range(ROUNDS):
        with EventStore.open(folder / f"lone{number}.db") as store:
            here = Coordinate("a", "eu")
            started = time.perf_counter()
            for n in range(count):
                store.append(here, KIND, {"amount": n, "note": NOTE})
            rates["ours"].append(count / (time.perf_counter() - started))
            items = [(here, KIND, {"amount": n, "note": NOTE}) for n in range(256)]
            rates["ours 256"].append(
                256 / seconds(lambda items=items: store.append_batch(items), 20)
            )
            rows = [
                (e.entity, e.scope, e.clock, e.kind_code, e.id_bytes, e.timestamp_us,
                 e.payload_bytes, e.previous_hash, e.event_hash)
                for e in store.read(count, 256)
            ]  # fmt: skip
        app = Application(
            env={
                "PERSISTENCE_MODULE": "eventsourcing.sqlite",
                "SQLITE_DBNAME": str(folder / f"theirs{number}.db"),
            }
        )
        account = Account()
        started = time.perf_counter()
        for n in range(count):
            account.credit(n, NOTE)
            app.save(account)
        rates["theirs"].append(count / (time.perf_counter() - started))
        app.close()
        connection = sqlite3.connect(folder / f"bare{number}.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE events (sequence INTEGER PRIMARY KEY, entity TEXT, scope TEXT,"
            " clock INTEGER, kind INTEGER, event_id BLOB, timestamp_us INTEGER, payload BLOB,"
            " previous_hash BLOB, event_hash BLOB)"
        )

        def insert(connection: sqlite3.Connection = connection, rows: Any = rows) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO events (entity, scope, clock, kind, event_id, timestamp_us, payload,"
                " previous_hash, event_hash) VALUES (?,?,?,?,?,?,?,?,?)",
                rows,
            )
            connection.execute("COMMIT")

        rates["bare 256"].append(256 / seconds(insert, 20))
        connection.close()
    medians = {label: statistics.median(found) for label, found in rates.items()}
    for label, rate in medians.items():
        print(f"{label:44} {rate:10,.0f} events/s")
    return [
        verdict(
            f"lone durable producer beside eventsourcing {version('eventsourcing')}",
            medians["ours"] / medians["theirs"],
            1.5,
            at_least=True,
        ),
        verdict(
            "a batch of 256 beside bare sqlite3", medians["bare 256"] / medians["ours 256"], 2.5
        ),
    ]


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [
            *rare_regions(folder),
            *opening(folder),
            *large_states(folder),
            *producers(folder),
        ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

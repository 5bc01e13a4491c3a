"""Replay: how long views take from nothing, and whether twice the events take twice as long."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.db._database import Database
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_artifact_registry.events import NewEvent, RegistryViewWriter, replay
from starfish_artifact_registry.log._hash_chain import verify_log
from starfish_artifact_registry.log._log import append_events, chain_events, head_of_log
from starfish_artifact_registry.model._catalogue import (
    FileIngested,
    PackageCreated,
    storage_location_id,
)
from starfish_protocol.address import ContentAddress

WANTED_S = 20.0
FILES_OF_A_PACKAGE = 99


def _package(number: int) -> list[NewEvent]:
    package_id = uuid4()
    created = PackageCreated(
        name=f"run {number}",
        producer="benchmark",
        subject="replay",
        retention_class="raw-evidence",
        retention_days=3650,
        metadata={"run": number, "tags": ["a", "b"]},
    )
    events = [NewEvent(package_id, created, "ada")]
    for index in range(FILES_OF_A_PACKAGE):
        data = f"{number} {index}".encode()
        address = ContentAddress.of(data)
        file = FileIngested(
            file_id=uuid4(),
            relative_path=f"measurements/{index:04}.csv",
            media_type="text/csv",
            size=len(data),
            content_address=address,
            sha256=ContentAddress.of(data, "sha256"),
            backend_id="local",
            storage_location_id=storage_location_id("local", address),
        )
        events.append(NewEvent(package_id, file, "ada"))
    return events


async def _grow(engine: AsyncEngine, start: int, stop: int) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for first in range(start, stop, 20):
        new = [
            event for number in range(first, min(first + 20, stop)) for event in _package(number)
        ]
        async with Database(engine).write() as connection:
            head = await head_of_log(connection)
            await append_events(connection, chain_events(head, new, now=now, new_id=_new_id))


def _new_id() -> UUID:
    return uuid4()


async def _timed(engine: AsyncEngine) -> tuple[float, float]:
    begin = time.perf_counter()
    await replay(engine, RegistryViewWriter())
    replayed = time.perf_counter()
    report = await verify_log(Database(engine), RegistryViewWriter(), 2_000)
    assert report.ok
    return replayed - begin, time.perf_counter() - replayed


async def measure(events: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'registry.sqlite'}")
        await create_schema(engine)
        packages = events // (FILES_OF_A_PACKAGE + 1)
        await _grow(engine, 0, packages // 2)
        half, half_verify = await _timed(engine)
        await _grow(engine, packages // 2, packages)
        full, full_verify = await _timed(engine)
        await engine.dispose()
    print(f"{'events':>10} {'replay s':>10} {'verify_log s':>14}")
    print(f"{packages // 2 * 100:>10} {half:>10.2f} {half_verify:>14.2f}")
    print(f"{packages * 100:>10} {full:>10.2f} {full_verify:>14.2f}")
    scaled = full * 100_000 / (packages * 100)
    growth = full / half
    in_time, linear = scaled < WANTED_S, growth < 2.6
    print(
        f"replay of 100,000 events: measured {scaled:.1f} s, wanted below {WANTED_S:.0f} s  "
        f"{'ok' if in_time else 'MISSED'}"
    )
    print(
        f"twice the events: measured {growth:.2f}x, wanted 2x within noise (below 2.6x)  "
        f"{'ok' if linear else 'MISSED'}"
    )
    return 0 if in_time and linear else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    sys.exit(asyncio.run(measure(parser.parse_args().events)))

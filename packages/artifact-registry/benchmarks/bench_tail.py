"""`tail_events`: how soon after its commit an event is delivered, to this process and to others."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend

WANTED_MS = 50.0


async def _delays(writer: Registry, reader: Registry, count: int, since: int) -> list[float]:
    arrived: dict[int, float] = {}

    async def read() -> None:
        async for event in reader.tail_events(since):
            arrived[event.sequence] = time.perf_counter()
            if len(arrived) == count:
                return

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.2)
    committed: dict[int, float] = {}
    for number in range(count):
        await writer.create_package(
            name=str(number), producer="p", subject="s", retention_class="derived", actor="ada"
        )
        committed[since + number + 1] = time.perf_counter()
        await asyncio.sleep(0.013)
    await reading
    return [1000 * (arrived[sequence] - moment) for sequence, moment in committed.items()]


async def measure(url: str | None, count: int) -> int:
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        url = url or f"sqlite:///{Path(folder) / 'registry.sqlite'}"
        engines = [create_engine(url), create_engine(url)]
        await create_schema(engines[0])
        dataplane = InProcessDataPlane(LocalBackend(Path(folder) / "content"))
        writer, stranger = (Registry(e, dataplane, RegistryViewWriter()) for e in engines)
        for label, reader in (("same registry", writer), ("another process's", stranger)):
            since = await writer.event_source.last_sequence()
            delays = sorted(await _delays(writer, reader, count, since))
            median = statistics.median(delays)
            missed |= median > WANTED_MS
            print(
                f"{label:<20} median {median:6.1f} ms, 95% below {delays[int(count * 0.95)]:.1f} ms,"
                f" wanted below {WANTED_MS:.0f} ms  {'ok' if median <= WANTED_MS else 'MISSED'}"
            )
        for engine in engines:
            await engine.dispose()
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a PostgreSQL database instead of a new SQLite file")
    parser.add_argument("--events", type=int, default=200)
    arguments = parser.parse_args()
    sys.exit(asyncio.run(measure(arguments.url, arguments.events)))

"""Ingest of one large file to a folder, beside copying and hashing it with the system's tools.

Caveats. Ours is `ingest_file`: it ends with an fsync, both hashes, the content under its address and
the event in the log of an SQLite database; ``cp`` alone leaves the bytes in the page cache, so a
second row gives it the sync that it would need for the same promise. Where ``b3sum`` is not
installed its part is the package ``blake3`` on one thread, which is what ``b3sum --num-threads 1``
runs. The source is in the page cache. Each turn runs in a process of its own, turn and turn about;
the figures are medians. ``BENCH_MIB`` sets the size.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path

MIB = 1024 * 1024
SIZE = int(os.environ.get("BENCH_MIB", "1024")) * MIB
TURNS = 3
CHUNK = MIB

B3SUM = (
    "import sys\n"
    "from blake3 import blake3\n"
    "hasher = blake3()\n"
    "with open(sys.argv[1], 'rb', buffering=0) as file:\n"
    "    while chunk := file.read(2**20): hasher.update(chunk)\n"
    "print(hasher.hexdigest())\n"
)


async def chunks_of(path: Path) -> AsyncGenerator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


def ours(source: Path, target: Path) -> None:
    """In a child: prints how long `ingest_file` took and the most memory that it held, in MiB."""
    from starfish_artifact_registry.dataplane import InProcessDataPlane
    from starfish_artifact_registry.db.engine import create_engine
    from starfish_artifact_registry.db.schema import create_schema
    from starfish_artifact_registry.events import RegistryViewWriter
    from starfish_artifact_registry.registry import Registry
    from starfish_artifact_registry.storage import LocalBackend

    async def ingest() -> float:
        engine = create_engine(f"sqlite:///{target / 'registry.sqlite'}")
        await create_schema(engine)
        backend = LocalBackend(target / "content")
        registry = Registry(engine, InProcessDataPlane(backend), RegistryViewWriter())
        package_id = await registry.create_package(
            name="n", producer="p", subject="s", retention_class="derived", actor="ada"
        )
        started = time.perf_counter()
        await registry.ingest_file(
            package_id,
            relative_path="large",
            media_type="application/octet-stream",
            stream=chunks_of(source),
            actor="ada",
        )
        spent = time.perf_counter() - started
        assert (await registry.get_package(package_id)).total_bytes == SIZE
        await engine.dispose()
        return spent

    target.mkdir()
    spent = asyncio.run(ingest())
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    print(spent, int(peak[1]) / 1024)


def timed(*command: str | Path) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    b3sum = shutil.which("b3sum")
    b3 = [b3sum, "--num-threads", "1"] if b3sum else [sys.executable, "-c", B3SUM]
    parts: dict[str, list[float]] = {}
    peaks: list[float] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        folder = Path(name)
        source = folder / "source"
        with source.open("wb") as file:
            for _ in range(SIZE // MIB):
                file.write(os.urandom(MIB))
            file.flush()
            os.fsync(file.fileno())
        for _ in range(TURNS):
            child = [sys.executable, __file__, "ours", source, folder / "registry"]
            done = subprocess.run(child, check=True, capture_output=True, text=True)
            spent, peak = map(float, done.stdout.split())
            parts.setdefault("ours", []).append(spent)
            peaks.append(peak)
            shutil.rmtree(folder / "registry")
            parts.setdefault("cp", []).append(timed("cp", source, folder / "copy"))
            parts.setdefault("sync of the copy", []).append(timed("sync", folder / "copy"))
            parts.setdefault("b3sum", []).append(timed(*b3, folder / "copy"))
            parts.setdefault("sha256sum", []).append(timed("sha256sum", folder / "copy"))
            (folder / "copy").unlink()

    if not b3sum:
        print("b3sum is not installed: its part is the package blake3 on one thread")
    median = {part: statistics.median(times) for part, times in parts.items()}
    one_after_the_other = median["cp"] + median["b3sum"] + median["sha256sum"]
    rows = median | {
        "cp + b3sum + sha256sum": one_after_the_other,
        "cp + sync + b3sum + sha256sum": one_after_the_other + median["sync of the copy"],
    }
    for part, spent in rows.items():
        print(f"{part:30} {spent:7.2f} s {SIZE / MIB / spent:8.0f} MiB/s")
    print(f"{'most memory of ours':30} {max(peaks):7.0f} MiB")

    ratio = one_after_the_other / median["ours"]
    fast, small = ratio >= 0.8, max(peaks) < 100
    print(f"rate of ingest: measured {ratio:.2f}x, wanted 0.80x  {'ok' if fast else 'MISSED'}")
    print(
        f"memory: measured {max(peaks) / 100:.2f}x of 100 MiB, wanted below 1.00x  "
        f"{'ok' if small else 'MISSED'}"
    )
    return 0 if fast and small else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["ours"]:
        ours(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main())

"""What this package costs beside the plain calls that it replaces, and what a batch saves.

Each pair runs interleaved, on the same disk; medians of blocks. A ratio above 1 is in our favour.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from starfish_disk import BatchThread, GroupCommit, Place, SqliteFile, replace_file

ROUNDS = 7
BLOCK = 40
DATA = b"x" * 1000
INSERT = "INSERT INTO item (value) VALUES (zeroblob(200))"
LAYOUTS = [["CREATE TABLE item (id INTEGER PRIMARY KEY, value BLOB)"]]
WANTED = {
    "replace_file": 0.6,
    "a write alone": 0.6,
    "an open": 0.1,
    "64 writes at once": 3.0,
}
"""At least so many times as fast as the plain way; an open does things that the plain one does not."""


def seconds(work: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - started) / count


def compare(name: str, plain: Callable[[], object], ours: Callable[[], object], count: int) -> bool:
    pairs = [(seconds(plain, count), seconds(ours, count)) for _ in range(ROUNDS)]
    before, after = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    good = ratio >= WANTED[name]
    print(
        f"{name:18} plain {before * 1e6:8.0f} us   ours {after * 1e6:8.0f} us   "
        f"ratio {ratio:5.2f}   wanted {WANTED[name]:5.2f}   {'ok' if good else 'MISSED'}"
    )
    return good


def plain_replace(path: Path) -> None:
    """Temporary file, fsync, rename, fsync of the folder: the copies that this replaces."""
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(DATA)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def plain_connection(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, value BLOB)")
    return connection


def plain_write(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(INSERT)
    connection.execute("COMMIT")


def insert(connection: sqlite3.Connection) -> None:
    connection.execute(INSERT)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [
            compare(
                "replace_file",
                lambda: plain_replace(folder / "plain"),
                lambda: replace_file(folder / "ours", DATA),
                BLOCK,
            )
        ]
        file = SqliteFile(folder / "ours.sqlite", application_id=1, layouts=LAYOUTS)
        plain, ours = plain_connection(folder / "plain.sqlite"), file.connect()

        def write() -> None:
            with file.transaction(ours):
                ours.execute(INSERT)

        results.append(compare("a write alone", lambda: plain_write(plain), write, BLOCK))
        results.append(
            compare(
                "an open",
                lambda: plain_connection(folder / "plain.sqlite").close(),
                lambda: open_anew(folder / "ours.sqlite"),
                BLOCK,
            )
        )
        results.append(many_at_once(file, plain))
        place = Place(folder / "ours.sqlite")
        print(
            f"a look whether the file is in its place: {seconds(place.check, 20_000) * 1e6:.1f} us"
        )
        plain.close()
        ours.close()
    return 0 if all(results) else 1


def open_anew(path: Path) -> None:
    SqliteFile(path, application_id=1, layouts=LAYOUTS).connect().close()


def many_at_once(file: SqliteFile, plain: sqlite3.Connection) -> bool:
    """64 callers of an event loop: an executor call and a commit each, or one batch."""
    with asyncio.Runner() as runner:
        thread = BatchThread("writes", GroupCommit(file))

        async def by_executor() -> None:
            lock = asyncio.Lock()

            async def one() -> None:
                async with lock:
                    await asyncio.to_thread(plain_write, plain)

            await asyncio.gather(*(one() for _ in range(64)))

        async def by_batch() -> None:
            await asyncio.gather(*(thread.submit(insert) for _ in range(64)))

        good = compare(
            "64 writes at once",
            lambda: runner.run(by_executor()),
            lambda: runner.run(by_batch()),
            3,
        )
        thread.close()
    return good


if __name__ == "__main__":
    sys.exit(main())

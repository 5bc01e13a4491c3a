"""Calls share a commit, and fail alone."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_disk.batch_thread import BatchThread, Call
from starfish_disk.errors import (
    BatchFailedError,
    BusyError,
    DiskError,
    PlaceChangedError,
    UnavailableError,
)
from starfish_disk.sqlite_batches import GroupCommit, SnapshotReads
from starfish_disk.sqlite_file import SqliteFile

LAYOUTS = [["CREATE TABLE item (name TEXT PRIMARY KEY, value BLOB)"]]


def open_file(path: Path, **options: Any) -> SqliteFile:
    return SqliteFile(path, application_id=0x54455354, layouts=LAYOUTS, **options)


def insert(name: str, size: int = 1) -> Callable[[sqlite3.Connection], str]:
    def operation(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO item VALUES (?, zeroblob(?))", (name, size))
        return name

    return operation


def torn(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO item VALUES ('half', NULL)")
    raise KeyError("no")


def refused(_connection: sqlite3.Connection) -> None:
    raise KeyError("no")


def names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM item ORDER BY rowid")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def thread(path: Path) -> Iterator[BatchThread[sqlite3.Connection]]:
    thread = BatchThread("writes", GroupCommit(open_file(path)))
    yield thread
    thread.close()


def run(worker: GroupCommit | SnapshotReads, *operations: Any) -> list[Call[sqlite3.Connection]]:
    loop = asyncio.new_event_loop()
    calls = [Call[sqlite3.Connection](operation, loop.create_future()) for operation in operations]
    loop.close()
    worker.run(calls)
    return calls


async def test_many_writes_at_once_and_reads_after_them(path: Path) -> None:
    file = open_file(path)
    writes = BatchThread("writes", GroupCommit(file))
    reads = BatchThread("reads", SnapshotReads(file))

    await asyncio.gather(*(writes.submit(insert(f"{n}")) for n in range(500)))

    assert await reads.submit(names) == [f"{n}" for n in range(500)]
    with pytest.raises(UnavailableError, match="no such table"):
        await reads.submit(lambda connection: connection.execute("SELECT * FROM none"))
    await reads.stop()
    await writes.stop()


def test_a_batch_is_one_commit(path: Path) -> None:
    seen: list[int] = []
    worker = GroupCommit(open_file(path), committed=lambda calls: seen.append(len(calls)))
    with closing(open_file(path).connect()) as other:
        before = other.execute("PRAGMA data_version").fetchone()[0]
        calls = run(worker, *(insert(f"{n}") for n in range(10)))
        after = other.execute("PRAGMA data_version").fetchone()[0]

    assert [call.result for call in calls] == [f"{n}" for n in range(10)]
    assert after == before + 1
    assert seen == [10]
    worker.finish()


def test_each_call_fails_alone_and_leaves_nothing(path: Path) -> None:
    worker = GroupCommit(open_file(path))
    calls = run(
        worker, insert("a"), torn, insert("a"), refused, insert("b"), names, torn, insert("c")
    )

    kinds = [type(call.error) for call in calls]
    none = type(None)
    assert kinds == [none, KeyError, UnavailableError, KeyError, none, none, KeyError, none]
    assert calls[5].result == ["a", "b"]
    assert run(worker, names)[0].result == ["a", "b", "c"]
    worker.finish()


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_sqlite_batches import *
path = Path(sys.argv[2])
worker = GroupCommit(open_file(path))
run(worker, insert("before"))
limit = Path(f"{path}-wal").stat().st_size + 40_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
calls = run(worker, insert("a"), insert("large", 500_000), insert("b"))
print([isinstance(call.error, DiskError) for call in calls])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(run(worker, names)[0].result)
"""


def test_on_a_full_disk_the_small_ones_go_in(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, Path(__file__).parent, path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.stdout.splitlines() == ["[False, True, False]", "['before', 'a', 'b']"]


def test_a_file_that_is_gone_fails_each_call_once(path: Path) -> None:
    worker = GroupCommit(open_file(path))
    reader = SnapshotReads(worker.file)
    run(worker, insert("a"))
    run(reader, names)
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").rename(f"{path}{end}.away")
    count = 0

    def counted(connection: sqlite3.Connection) -> None:
        nonlocal count
        count += 1

    calls = [*run(worker, counted, counted), *run(reader, counted)]

    assert [type(call.error) for call in calls] == [PlaceChangedError] * 3
    assert calls[0].error is not calls[1].error
    assert count == 0


def test_a_busy_file_is_waited_for_once_a_batch(path: Path) -> None:
    file = open_file(path, busy_timeout_ms=100)
    worker = GroupCommit(file)
    with closing(file.connect()) as other:
        other.execute("BEGIN IMMEDIATE")
        calls = run(worker, *(insert(f"{n}") for n in range(50)))
        other.execute("ROLLBACK")

    assert {type(call.error) for call in calls} == {BusyError}
    assert run(worker, insert("a"))[0].error is None
    worker.finish()


class OwnError(Exception):
    pass


def test_the_callers_error_may_be_the_stores_own(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    worker = GroupCommit(open_file(path), as_error=lambda error: OwnError(error.reason))

    calls = run(worker, insert("a"), insert("b"))

    assert [type(call.error) for call in calls] == [OwnError, OwnError]
    assert isinstance(calls[0].error.__cause__ if calls[0].error else None, DiskError)
    path.unlink()
    assert run(worker, insert("a"))[0].error is None
    worker.finish()


def test_a_batch_may_choose_its_durability(path: Path) -> None:
    worker = GroupCommit(
        open_file(path), durability=lambda calls: "full" if len(calls) > 1 else "normal"
    )

    def level(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA synchronous").fetchone()[0])

    assert [call.result for call in run(worker, level)] == [1]
    assert [call.result for call in run(worker, level, level)] == [2, 2]
    worker.finish()


def test_ticks_and_the_farewell_have_the_connection(path: Path) -> None:
    ticked = threading.Event()
    said: list[list[str]] = []
    worker = GroupCommit(
        open_file(path),
        tick=lambda _connection: ticked.set(),
        farewell=lambda connection: said.append(names(connection)),
    )
    thread = BatchThread("writes", worker, tick_s=0.01)
    thread.call(insert("a"))

    assert ticked.wait(10)
    thread.close()
    assert said == [["a"]]


def test_an_operation_that_ends_the_transaction_is_an_error_and_not_a_hang(
    thread: BatchThread[sqlite3.Connection],
) -> None:
    with pytest.raises((DiskError, BatchFailedError)):
        thread.call(lambda connection: connection.execute("COMMIT"))
    assert thread.call(insert("a")) == "a"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["ok", "torn", "no"]))))
def test_a_batch_is_as_if_each_call_had_been_alone(steps: list[tuple[str, str]]) -> None:
    def operation(name: str, kind: str) -> Callable[[sqlite3.Connection], int]:
        def run_it(connection: sqlite3.Connection) -> int:
            if kind == "no":
                raise KeyError(name)
            connection.execute("INSERT INTO item VALUES (?, NULL)", (name,))
            if kind == "torn":
                raise KeyError(name)
            return len(names(connection))

        return run_it

    def outcome(call: Call[sqlite3.Connection]) -> object:
        return call.result if call.error is None else type(call.error)

    with tempfile.TemporaryDirectory() as folder:
        together = GroupCommit(open_file(Path(folder) / "together", durability="normal"))
        alone = GroupCommit(open_file(Path(folder) / "alone", durability="normal"))
        operations = [operation(*step) for step in steps]

        batched = [outcome(call) for call in run(together, *operations)]
        single = [outcome(run(alone, each)[0]) for each in operations]

        assert batched == single
        assert run(together, names)[0].result == run(alone, names)[0].result
        together.finish()
        alone.finish()

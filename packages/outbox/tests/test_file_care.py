"""Files of older versions, damaged ones, full disks, and space that is given back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from starfish_outbox import OutboxEntry, OutboxQueue, SqliteOutbox, drain_outbox, run_outbox
from starfish_outbox.__main__ import main

OLD = Path(__file__).parent / "fixtures/layout-1.sqlite"


async def entries_of(path: Path, key: str) -> list[OutboxEntry]:
    async with SqliteOutbox(path) as outbox:
        queue = OutboxQueue(outbox)
        await queue.hydrate(key)
        return queue.get()


async def fill(path: Path, count: int = 300) -> None:
    async with SqliteOutbox(path) as outbox:
        queue = OutboxQueue(outbox)
        await queue.hydrate("k")
        await queue.enqueue_many([(f"e{n}", {"t": "x" * 500}) for n in range(count)])
        await queue.mark_failed("e1", reason="refused by the server")


def test_a_file_of_the_first_layout_is_read_and_brought_to_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    shutil.copy(OLD, path)

    assert main(["inspect", str(path)]) == 0  # as it is
    assert path.read_bytes() == OLD.read_bytes()
    bob = asyncio.run(entries_of(path, "outbox.bob"))
    assert bob == [OutboxEntry("queued", "bob's", "queued", 0, 4)]
    ada = asyncio.run(entries_of(path, "outbox.ada"))
    assert [(e.id, e.status, e.attempts) for e in ada] == [
        ("queued", "queued", 0),
        ("failed", "failed", 1),
        ("resting", "queued", 1),
    ]
    assert ada[0].item["body"] == {"t": "é"}


@pytest.mark.parametrize("page", range(3, 41, 6))
def test_a_damaged_page_hides_no_other(
    tmp_path: Path, page: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path, saved = tmp_path / "o.sqlite", tmp_path / "saved.sqlite"
    asyncio.run(fill(path))
    with path.open("r+b") as file:
        file.seek(4096 * (page + 5))
        file.write(os.urandom(4096))

    assert main(["export", str(path)]) == 1
    captured = capsys.readouterr()
    exported = json.loads(captured.out)
    assert 270 <= len(exported) < 300
    assert "cannot be read" in captured.err
    assert main(["recover", str(path), str(saved)]) == 1
    assert main(["recover", str(path), str(saved)]) == 4  # it is there already
    recovered = asyncio.run(entries_of(saved, "k"))
    assert [e.id for e in recovered] == [e["id"] for e in exported]


def test_a_whole_file_is_recovered_and_can_be_vacuumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, saved = tmp_path / "o.sqlite", tmp_path / "saved.sqlite"
    asyncio.run(fill(path))

    assert main(["recover", str(path), str(saved), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recovered"] == 300
    assert asyncio.run(entries_of(saved, "k"))[1].failure.reason == "refused by the server"
    assert main(["vacuum", str(saved), "--json"]) == 0
    assert main(["remove", str(saved), "--id", "e1"]) == 0
    assert main(["remove", str(saved), "--id", "e1", "--json"]) == 3
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"] == "NotThereError"


def test_inspect_says_why_and_that_nothing_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "o.sqlite"
    asyncio.run(fill(path, 2))
    assert main(["inspect", str(path)]) == 0
    assert "error: refused by the server" in capsys.readouterr().out
    for name in ("e0", "e1"):
        main(["remove", str(path), "--id", name])
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 0
    assert "empty" in capsys.readouterr().out


async def test_space_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    async with SqliteOutbox(path) as outbox:
        queue = OutboxQueue(outbox)
        await queue.hydrate("k")
        for part in range(4):
            await queue.enqueue_many([(f"{part}-{n}", "x" * 1000) for n in range(1000)])

        async def send(entry: OutboxEntry) -> None:
            pass

        await drain_outbox(queue, send, concurrency=64)
        assert path.with_name("o.sqlite-wal").stat().st_size < 8 << 20
        full = path.stat().st_size
    assert path.stat().st_size < full / 4


FULL = """
import asyncio, subprocess, sys
from pathlib import Path
from starfish_outbox import OutboxError, OutboxQueue, SqliteOutbox, drain_outbox

async def fill(path):
    outbox = SqliteOutbox(path)
    queue = OutboxQueue(outbox)
    await queue.hydrate("k")
    count = 0
    try:
        for count in range(5000):
            await queue.enqueue(f"e{count}", "x" * int(sys.argv[2]))
    except OutboxError as error:
        print(type(error).__name__)
    return outbox, queue, count

async def main():
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", sys.argv[1]], check=True)
    path = Path(sys.argv[1]) / "o.sqlite"
    outbox, queue, count = await fill(path)
    if sys.argv[3] == "restarts":
        await outbox.close()
        outbox = SqliteOutbox(path)
        queue = OutboxQueue(outbox)
        await queue.hydrate("k")
    sent = []
    async def send(entry):
        sent.append(entry.id)
    await drain_outbox(queue, send)
    await queue.enqueue("again", 1)
    print(len(sent) == count, len(set(sent)) == count, [e.id for e in queue.get()])

asyncio.run(main())
"""


@pytest.mark.parametrize("size", [100, 2000, 20_000])
@pytest.mark.parametrize("restarts", ["restarts", "goes on"])
def test_a_full_disk_can_be_emptied(tmp_path: Path, size: int, restarts: str) -> None:
    own_mounts = ["unshare", "-Urm"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*own_mounts, "true"], check=False).returncode
    ):
        pytest.skip("needs mounts of its own: unshare of util-linux, and user namespaces")
    done = subprocess.run(
        [*own_mounts, sys.executable, "-c", FULL, tmp_path, str(size), restarts],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    expected = ["OutboxPersistenceError", "True True ['again']"]
    assert done.stdout.splitlines() == expected, done.stderr


async def test_entries_of_other_processes_are_seen_without_an_option(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    sent: list[str] = []

    async def send(entry: OutboxEntry) -> None:
        sent.append(entry.id)

    async with SqliteOutbox(path) as ours, SqliteOutbox(path) as theirs:
        queue, other = OutboxQueue(ours), OutboxQueue(theirs)
        await queue.hydrate("k")
        await other.hydrate("k")
        online, stop = asyncio.Event(), asyncio.Event()
        online.set()
        run = asyncio.create_task(run_outbox(queue, send, online, stop=stop))
        await asyncio.sleep(0.05)
        await other.enqueue("theirs", 1)
        async with asyncio.timeout(10):
            while not sent:  # noqa: ASYNC110 - any condition, not one event
                await asyncio.sleep(0.01)
        stop.set()
        await run
    assert sent == ["theirs"]


async def test_former_users_are_forgotten(tmp_path: Path) -> None:
    async with SqliteOutbox(tmp_path / "o.sqlite") as outbox:
        queue = OutboxQueue(outbox)
        for user in range(5):
            await queue.hydrate(f"user{user}")
            await queue.enqueue(f"u{user}", "diary")

        kept = [p.known for p in queue._left.values()]
        assert kept == [{}] * 4
        assert outbox._thread.engine.ids.of("user0") is None
        await queue.hydrate("user0")
        assert [e.id for e in queue.get()] == ["u0"]

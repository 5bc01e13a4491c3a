"""``python -m starfish_outbox``: output, exit status, and files that stay as they are."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from starfish_outbox import FileCache, LocalCache, OutboxQueue, QueueBackend, SqliteOutbox
from starfish_outbox.__main__ import main


async def fill(storage: LocalCache | QueueBackend) -> None:
    queue = OutboxQueue(storage)
    await queue.hydrate("outbox.Ada")
    await queue.enqueue("a", {"secret": "x"}, 1)
    await queue.enqueue("b", 2, 2)
    await queue.enqueue("c", 3, 3)
    await queue.mark_failed("b")
    await queue.mark_failed("c")


@pytest.fixture(params=["sqlite", "files"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    async def make() -> Path:
        if request.param == "files":
            await fill(FileCache(tmp_path))
            return FileCache(tmp_path).path_of("outbox.Ada")
        async with SqliteOutbox(tmp_path / "o.sqlite") as outbox:
            await fill(outbox)
        return tmp_path / "o.sqlite"

    return asyncio.run(make())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_inspect_shows_entries_but_not_items_and_changes_nothing(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(file.parent)

    assert main(["inspect", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "outbox.Ada: 2 failed, 1 queued, 0 sending" in shown
    assert "secret" not in shown
    assert main(["inspect", str(file), "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["queues"]["outbox.Ada"]
    assert [(e["id"], e["status"], e["attempts"]) for e in entries] == [
        ("a", "queued", 0),
        ("b", "failed", 1),
        ("c", "failed", 1),
    ]
    assert snapshot(file.parent) == before


def test_export_writes_what_another_implementation_reads(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(file.parent)

    assert main(["export", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {
        "id": "a",
        "item": {"secret": "x"},
        "status": "queued",
        "attempts": 0,
        "enqueuedAt": 1,
    }
    assert snapshot(file.parent) == before


def test_retry_queues_failed_entries_again(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retry", str(file), "--id", "b"]) == 0
    assert main(["retry", str(file), "--id", "b"]) == 3
    assert main(["retry", str(file), "--json"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 queued again",
        "0 queued again",
        '{"retried": [{"key": "outbox.Ada", "id": "c"}]}',
    ]
    main(["inspect", str(file)])
    assert "0 failed, 3 queued" in capsys.readouterr().out


def test_a_file_in_use_is_read_without_changing_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, log = tmp_path / "o.sqlite", tmp_path / "o.sqlite-wal"

    def inspected_unchanged() -> bool:
        before = path.read_bytes(), log.read_bytes()
        assert main(["inspect", str(path)]) == 0
        return (path.read_bytes(), log.read_bytes()) == before

    async def in_use() -> None:
        async with SqliteOutbox(path) as outbox:
            await fill(outbox)
            assert await asyncio.to_thread(inspected_unchanged)

    asyncio.run(in_use())
    assert "2 failed, 1 queued" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["inspect", "retry", "export"])
@pytest.mark.parametrize(
    "content",
    [None, b"", b"text", b"SQLite format 3\0" + b"\xff" * 5000, b"\xff\xfe", b"{}"],
    ids=["missing", "empty", "text", "damaged", "no utf-8", "no array"],
)
def test_a_file_that_is_not_an_outbox_is_one_line_and_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, content: bytes | None
) -> None:
    path = tmp_path / "queue.json"
    if content is not None:
        path.write_bytes(content)
    before = snapshot(tmp_path)

    assert main([command, str(path)]) == (3 if content is None else 1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("starfish_outbox: ")
    assert snapshot(tmp_path) == before


def test_several_queues_need_a_key_to_be_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def make() -> None:
        async with SqliteOutbox(tmp_path / "o.sqlite") as outbox:
            for key in ("k1", "k2"):
                queue = OutboxQueue(outbox)
                await queue.hydrate(key)
                await queue.enqueue("a", key)

    asyncio.run(make())
    path = str(tmp_path / "o.sqlite")

    assert main(["export", path]) == 1
    assert "k1, k2" in capsys.readouterr().err
    assert main(["export", path, "--key", "k2"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["item"] == "k2"
    assert main(["inspect", path, "--key", "k3"]) == 3


def test_it_runs_as_a_module_and_wrong_usage_is_status_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "starfish_outbox", "dance"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert done.returncode == 2
    assert "inspect" in done.stderr


def test_a_file_that_is_to_be_made_and_is_there_is_a_conflict(tmp_path: Path, capsys) -> None:
    path, target = tmp_path / "o.sqlite", tmp_path / "new.sqlite"
    asyncio.run(_store_one(path))
    target.write_text("mine")

    assert main(["recover", str(path), str(target), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"] == "ThereAlreadyError"
    assert target.read_text() == "mine"


@pytest.mark.timeout(60)
def test_a_file_that_another_process_holds_is_unavailable(tmp_path: Path, capsys) -> None:
    path = tmp_path / "o.sqlite"
    asyncio.run(_store_one(path))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        assert main(["vacuum", str(path)]) == 5
    finally:
        holder.close()
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["vacuum", str(path)]) == 0


async def _store_one(path: Path) -> None:
    async with SqliteOutbox(path) as outbox:
        queue = OutboxQueue(outbox)
        await queue.hydrate("k")
        await queue.enqueue("a", 1)

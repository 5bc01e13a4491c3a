"""Several processes that fold into one list of one SQLite file, and one that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from starfish_projection import Projection, ProjectionSet, rebuild_projection
from starfish_projection._list_storage import ListStorage
from starfish_server.config.schema import SyncConfig
from starfish_server.storage.sqlite import SqliteObjectStore

_KILLS = int(os.environ.get("STARFISH_KILLS", "5"))

_WORKER = """
import asyncio, sys
from starfish_projection import Projection, ProjectionSet, create_projection_server_plugin
from starfish_protocol.plugins import WriteEvent
from starfish_server.protocol.push import push
from starfish_server.storage.sqlite import SqliteObjectStore

async def main(path, name, count):
    store = SqliteObjectStore(path)
    plugin = create_projection_server_plugin(
        store=store,
        projections=[Projection("notes", "list", lambda e: ProjectionSet(e.params["note"], e.body))],
    )
    gate = asyncio.Semaphore(8)

    async def one(number):
        async with gate:
            note, body = f"{name}-{number}", {"n": number}
            answer = await push(store, f"notes/{note}", body, None)
            await plugin.after_write(WriteEvent(
                "notes", answer.hash, answer.timestamp, {"note": note}, body,
                document_key=f"notes/{note}",
            ))
            print(note, flush=True)

    await asyncio.gather(*map(one, range(count)))
    assert not plugin.stats().dropped, plugin.stats()
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def _start(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(path), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def _list(path: Path) -> dict[str, object]:
    async def read() -> str | None:
        store = SqliteObjectStore(path)
        text = await store.get_string("list")
        if text is not None:
            text = await ListStorage(store, pieces_above_bytes=None).whole("list", text)
        await store.close()
        return text

    text = asyncio.run(read())
    items = [] if text is None else json.loads(text)["data"]["items"]
    found = {item["id"]: item["value"] for item in items}
    assert len(found) == len(items)
    return found


def test_processes_that_fold_into_one_list_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    workers = [_start(path, name, 60) for name in ("a", "b", "c")]

    codes = [worker.communicate()[1] or worker.returncode for worker in workers]

    assert codes == [0, 0, 0]
    assert _list(path) == {
        f"{name}-{number}": {"n": number} for name in ("a", "b", "c") for number in range(60)
    }


def test_what_was_answered_before_a_kill_is_in_the_list_and_a_rebuild_adds_the_rest(
    tmp_path: Path,
) -> None:
    path = tmp_path / "documents.sqlite"
    rng = random.Random(20)
    answered: set[str] = set()

    for number in range(_KILLS):
        worker = _start(path, f"k{number}", 10_000)
        assert worker.stdout is not None
        answered.add(worker.stdout.readline().strip())
        time.sleep(rng.random() * 0.15)
        worker.kill()
        complete, _, _ = worker.stdout.read().rpartition("\n")
        worker.stdout.close()
        worker.wait()
        answered.update(complete.split())
        assert answered <= _list(path).keys()

    stored = asyncio.run(_rebuild(path))

    assert set(_list(path)) == stored >= answered


async def _rebuild(path: Path) -> set[str]:
    store = SqliteObjectStore(path)
    config = SyncConfig.model_validate(
        {"collections": [{"name": "notes", "storagePath": "notes/{note}"}]}
    )
    view = Projection(
        "notes", "list", lambda e: ProjectionSet(e.params["note"], dict(e.body or {}))
    )
    report = await rebuild_projection(store=store, config=config, projections=view)
    assert report.complete
    keys = await store.list_keys("notes/")
    await store.close()
    return {key.removeprefix("notes/") for key in keys}


@pytest.fixture(autouse=True)
def _blocking_calls_fail() -> None:
    """Off: these tests start processes and wait for them."""

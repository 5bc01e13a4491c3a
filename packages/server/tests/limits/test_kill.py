"""Every push that got a 200 is there after the server was killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from starfish_protocol.hash import compute_hash
from starfish_server import SqliteObjectStore, pull
from starfish_server.storage.object_store import ObjectStore
from starfish_server.storage.postgres import PostgresObjectStore

ROUNDS = int(os.environ.get("STARFISH_KILL_ROUNDS", "50"))
WRITERS = 8

pytest.importorskip("uvicorn", reason="the extra uvicorn is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(30 + 5 * ROUNDS)]


class Zygote:
    """Starts servers and kills them."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        script = Path(__file__).with_name("forking_server.py")
        self._process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            bufsize=1, pass_fds=[listener.fileno()],
        )  # fmt: skip
        self._child: int | None = None

    def start(self, store: str, folder: Path) -> None:
        self._process.stdin.write(f"{store} {folder} {self._listener.fileno()}\n")
        self._child = int(self._process.stdout.readline())

    def kill(self) -> None:
        if self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            self._child = None

    def close(self) -> None:
        self.kill()
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def zygote() -> Iterator[tuple[Zygote, int]]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        made = Zygote(listener)
        try:
            yield made, listener.getsockname()[1]
        finally:
            made.close()


class Story:
    """The acknowledged writes, and those that may have been made besides."""

    def __init__(self) -> None:
        self.revisions = dict.fromkeys(range(WRITERS), 0)
        self.appended: set[str] = set()

    async def write(self, connection: Any, number: int, round_: int) -> None:
        """Write until the server is gone."""
        try:
            _, stored = await connection.ask("GET", f"/pull/notes/{number}")
            base = stored["hash"] or None
            # A pulled version counts as acknowledged: the last round's answer may have been lost.
            revision = self.revisions[number] = stored["data"].get("revision", 0)
            while True:
                data = {"revision": revision + 1, "text": "x" * 200}
                push = {"data": data, "baseHash": base}
                status, answer = await connection.ask("POST", f"/push/notes/{number}", push)
                assert status == 200, answer
                base, revision = answer["hash"], revision + 1
                self.revisions[number] = revision
                name = f"{round_}.{number}.{revision}"
                status, answer = await connection.ask(
                    "POST", "/push/log/hall", {"data": {"n": name}}
                )
                assert status == 200, answer
                self.appended.add(name)
        except (ConnectionError, OSError):
            return

    async def check(self, connection: Any) -> None:
        """Hold the stored documents against the acknowledged writes."""
        for number, revision in self.revisions.items():
            _, stored = await connection.ask("GET", f"/pull/notes/{number}")
            if revision == 0 and not stored["hash"]:
                continue
            assert stored["hash"] == compute_hash(stored["data"])
            # One more may have been stored, its answer lost with the process.
            assert stored["data"]["revision"] in {revision, revision + 1}
        _, log = await connection.ask("GET", "/pull/log/hall?full=true")
        names = [element["data"]["n"] for element in log["data"]["items"]]
        times = [element["ts"] for element in log["data"]["items"]]
        assert self.appended <= set(names)
        assert len(set(names)) == len(names)
        assert times == sorted(set(times))


async def changes_have_no_hole(store: ObjectStore) -> None:
    """Every version of every document is in the log once, its last one at the end."""
    changes = await store.changes.read(0, 10**6)
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    last = {change.key: change for change in changes}
    for number in range(WRITERS):
        key = f"notes/{number}"
        stored = await pull(store, key)
        assert last[key].hash == stored.hash
        assert last[key].generation == stored.data["revision"]
        assert [c.generation for c in changes if c.key == key] == [
            *range(1, last[key].generation + 1)
        ]
    await store.close()


@pytest.mark.parametrize("store", ["sqlite", "filesystem", "postgres"])
async def test_nothing_acknowledged_is_lost(
    store: str, tmp_path: Path, connection_class: Any, request: pytest.FixtureRequest
) -> None:
    story, chance = Story(), random.Random(7)
    dsn = ""
    if store == "postgres":
        dsn = request.getfixturevalue("postgres_database")
        (tmp_path / "dsn").write_text(dsn)
    with zygote() as (server, port):
        for round_ in range(ROUNDS):
            await asyncio.to_thread(server.start, store, tmp_path)
            first = connection_class(port)
            await first.until_healthy()
            await story.check(first)
            connections = [connection_class(port) for _ in range(WRITERS)]
            writers = [
                asyncio.create_task(story.write(connection, number, round_))
                for number, connection in enumerate(connections)
            ]
            # The first statements of a connection take a while.
            await asyncio.sleep(chance.uniform(0.02, 0.3) + 0.2 * (store == "postgres"))
            server.kill()
            # A connection that the dead server had not accepted yet waits for the next one.
            done, waiting = await asyncio.wait(writers, timeout=0.5)
            for writer in waiting:
                writer.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await asyncio.gather(*done)
            for connection in (first, *connections):
                await connection.close()
        await asyncio.to_thread(server.start, store, tmp_path)
        last = connection_class(port)
        await last.until_healthy()
        await story.check(last)
        await last.close()
    if store == "sqlite":
        await changes_have_no_hole(SqliteObjectStore(tmp_path / "documents.sqlite"))
    if store == "postgres":
        await changes_have_no_hole(PostgresObjectStore(dsn))
    writes = sum(story.revisions.values()) + len(story.appended)
    assert writes > ROUNDS * WRITERS
    sys.stdout.write(f"{store}: {ROUNDS} kills, {writes} acknowledged writes, none lost\n")

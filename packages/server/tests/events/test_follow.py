"""``starfish_server.events.follow``: a client that comes back, against real servers and odd ones."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from starfish_server import events
from starfish_server.events import FeedEvent, FeedRefusedError, follow

pytest.importorskip("uvicorn", reason="the extra serve is not installed")

NOTES = {
    "name": "notes", "storagePath": "notes/{id}", "readRoles": ["public"], "writeRoles": ["public"],
    "deletable": True,
}  # fmt: skip


class Server:
    """``starfish-server run`` on one port, however often it is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        (folder / "starfish.json").write_text(json.dumps({"collections": [NOTES]}))

    async def start(self) -> None:
        command = [
            sys.executable, "-m", "starfish_server", "run", "--port", str(self.port),
            "--config", str(self.folder / "starfish.json"), "--data", str(self.folder / "data"),
        ]  # fmt: skip
        self.process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        line = (await self.process.stdout.readline()).decode()
        self.port = int(line.rpartition(":")[2])

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    await server.start()
    yield server
    if server.process.returncode is None:
        await server.kill()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MOST_WAIT_S", 0.2)


async def push(server: Server, name: str, data: object, base: str | None = None) -> str:
    async with httpx.AsyncClient() as http:
        answer = await http.post(
            f"{server.url}/push/notes/{name}", json={"data": data, "baseHash": base}
        )
    assert answer.status_code == 200
    return str(answer.json()["hash"])


async def take(feed: Any, count: int) -> list[FeedEvent]:
    async with asyncio.timeout(30):
        return [await anext(feed) for _ in range(count)]


async def test_documents_then_changes_across_killed_servers(server: Server, quick: None) -> None:
    first = await push(server, "0", {"n": 0})
    async with aclosing(follow(server.url, snapshot=True)) as feed:
        document, synced = await take(feed, 2)
        assert (document.kind, document.key, document.hash) == ("document", "notes/0", first)
        assert (synced.kind, document.position) == ("synced", None)
        assert synced.position is not None
        for n in range(1, 4):
            await push(server, str(n), {"n": n})
            (change,) = await take(feed, 1)
            assert (change.kind, change.key) == ("change", f"notes/{n}")
            await server.kill()
            await server.start()
            await push(server, f"{n}b", {"n": n})
            (change,) = await take(feed, 1)
            assert change.key == f"notes/{n}b"

    # Another process goes on where this one was, with the position it kept.
    async with aclosing(follow(server.url, since=change.position)) as feed:
        await push(server, "later", {})
        assert (await take(feed, 1))[0].key == "notes/later"
    async with aclosing(follow(server.url, since="0", collections=["notes"])) as feed:
        assert len(await take(feed, 8)) == 8


async def test_a_new_store_is_a_reset_and_its_documents(server: Server, quick: None) -> None:
    await push(server, "old", {})
    async with aclosing(follow(server.url, since="0")) as feed:
        await take(feed, 1)
        await server.kill()
        for file in (server.folder / "data").iterdir():
            file.unlink()
        await server.start()
        hash_ = await push(server, "new", {})
        told = await take(feed, 3)
    assert [(each.kind, each.key) for each in told] == [
        ("reset", ""),
        ("document", "notes/new"),
        ("synced", ""),
    ]
    assert told[1].hash == hash_


async def test_a_removal_is_told(server: Server) -> None:
    async with aclosing(follow(server.url, snapshot=True)) as feed:
        await take(feed, 1)
        hash_ = await push(server, "1", {})
        async with httpx.AsyncClient() as http:
            await http.delete(f"{server.url}/push/notes/1?baseHash={hash_}")
        _, removed = await take(feed, 2)
    assert (removed.is_deleted, removed.hash, removed.key) == (True, "", "notes/1")


async def test_what_the_server_refuses_for_good_is_an_error(server: Server) -> None:
    async with aclosing(follow(server.url, collections=["nothing"])) as feed:
        with pytest.raises(FeedRefusedError, match="404 Collection not found") as refused:
            await anext(feed)
    assert (refused.value.status, refused.value.error) == (404, "Collection not found")


Answers = Callable[[httpx.Request], httpx.Response]


def client_of(*answers: httpx.Response) -> tuple[httpx.AsyncClient, list[httpx.Request]]:
    """A client whose requests get these answers, one after the other."""
    asked: list[httpx.Request] = []
    waiting = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return waiting.pop(0)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer)), asked


def change(key: str, id_: str) -> str:
    told = {"collection": "notes", "key": key, "hash": "0", "timestamp": 1}
    return f"id: {id_}\ndata: {json.dumps(told)}\n\n"


async def test_it_waits_as_long_as_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("starfish_server.events.asyncio.sleep", sleep)
    client, asked = client_of(
        httpx.Response(503, headers={"retry-after": "7"}),
        httpx.Response(429, headers={"retry-after": "Tue"}),
        httpx.Response(200, text="retry: 4000\n\n" + change("a", "p1")),
        httpx.Response(200, text=change("b", "p2")),
    )
    async with client, aclosing(follow("http://test", client=client)) as feed:
        told = await take(feed, 2)

    assert [each.position for each in told] == ["p1", "p2"]
    assert pauses[0] == 7
    assert 0.5 <= pauses[1] <= 1
    assert 2 <= pauses[2] <= 4
    assert asked[3].headers["last-event-id"] == "p1"


async def test_an_event_that_was_not_taken_is_asked_for_again(quick: None) -> None:
    client, asked = client_of(
        httpx.Response(200, text=change("a", "p1") + change("b", "p2")),
        httpx.Response(200, text=change("b", "p2")),
    )
    async with client:
        async with aclosing(follow("http://test", client=client)) as feed:
            (first,) = await take(feed, 1)
        async with aclosing(follow("http://test", client=client, since=first.position)) as feed:
            assert (await take(feed, 1))[0].key == "b"
    assert asked[1].headers["last-event-id"] == "p1"


@pytest.mark.parametrize(
    "text",
    ["data: no JSON\n\n", "data: []\n\n", 'data: {"key":1}\n\n'],
    ids=["text", "list", "half"],
)
async def test_nonsense_is_an_error_that_says_so(text: str) -> None:
    client, _ = client_of(httpx.Response(200, text=text))
    async with client, aclosing(follow("http://test", client=client)) as feed:
        with pytest.raises(FeedRefusedError, match="not an event of this protocol"):
            await anext(feed)


async def test_events_of_a_newer_server_and_comments_are_passed_over() -> None:
    client, _ = client_of(
        httpx.Response(200, text=f": hello\n\nevent: newer\ndata: x\n\n{change('a', 'p')}")
    )
    async with client, aclosing(follow("http://test", client=client)) as feed:
        assert (await take(feed, 1))[0].key == "a"


async def test_an_address_that_is_none_is_an_error() -> None:
    async with aclosing(follow("ftp://test")) as feed:
        with pytest.raises(httpx.UnsupportedProtocol):
            await anext(feed)

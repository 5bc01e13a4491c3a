"""Edits made offline meet those of users of the published clients, as the outbox's page promises."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from starfish_outbox import OutboxQueue, SqliteOutbox, drain_outbox
from starfish_outbox.http import PushSender

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(180)]

PEER_SCRIPTS = Path(__file__).parent / "peer"
Document = dict[str, Any]
OtherUser = Callable[..., dict[str, Any]]


@pytest.fixture(params=["python", "javascript"])
def other_user(request: pytest.FixtureRequest, server_url: str) -> OtherUser:
    """Somebody who edits a document with a published client; tells the server's document and hash."""
    command: Sequence[object]
    folder: Path | None = None
    if request.param == "python":
        command = [request.getfixturevalue("peer_python"), PEER_SCRIPTS / "other_user.py"]
    else:
        folder = request.getfixturevalue("peer_folder")
        shutil.copy(PEER_SCRIPTS / "other_user.mjs", folder)
        command = ["node", "other_user.mjs"]

    def edit(key: str, changes: Document | None = None, *, gone: Sequence[str] = ()) -> Document:
        told = {"url": server_url, "key": key, "set": changes or {}, "delete": list(gone)}
        done = subprocess.run(
            [*map(str, command), json.dumps(told)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return edit


class OurUser:
    """An application with an outbox: it edits what it has, online or not."""

    def __init__(self, queue: OutboxQueue, url: str, key: str, known: Document) -> None:
        self.queue = queue
        self.url = url
        self.key = key
        self.document: Document = known["data"]
        self.hash: str = known["hash"]

    async def edit(self, changes: Document | None = None, *, gone: Sequence[str] = ()) -> None:
        body = {**self.document, **(changes or {})}
        for name in gone:
            del body[name]
        item = {"path": self.key, "body": body, "baseHash": self.hash, "base": self.document}
        entry_id = f"edit-{len(self.queue.get())}"
        assert await self.queue.enqueue(entry_id, item)
        self.document = body

    async def come_online(self) -> int:
        async with httpx.AsyncClient(base_url=self.url) as client:
            sent = (await drain_outbox(self.queue, PushSender(client))).sent
        assert self.queue.get() == []
        return sent


async def our_user(
    folder: Path, url: str, key: str, known: Document
) -> tuple[SqliteOutbox, OurUser]:
    outbox = SqliteOutbox(folder / "outbox.sqlite")
    queue = OutboxQueue(outbox)
    await queue.hydrate("outbox.ada")
    return outbox, OurUser(queue, url, key, known)


FIRST = {"title": "List", "text": "milk", "done": False, "tag": "home", "extra": 1}


async def test_two_offline_edits_of_one_document_both_arrive(
    tmp_path: Path, server_url: str, other_user: OtherUser, request: pytest.FixtureRequest
) -> None:
    key = f"notes/two-{request.node.callspec.id}"
    outbox, ada = await our_user(tmp_path, server_url, key, other_user(key, FIRST))
    await ada.edit({"title": "Shopping"})
    await ada.edit({"text": "milk, bread"}, gone=["done"])

    assert await ada.come_online() == 2
    await outbox.close()
    assert other_user(key)["data"] == {
        "title": "Shopping",
        "text": "milk, bread",
        "tag": "home",
        "extra": 1,
    }


async def test_offline_edits_merge_with_those_of_others_deletions_included(
    tmp_path: Path, server_url: str, other_user: OtherUser, request: pytest.FixtureRequest
) -> None:
    key = f"notes/merge-{request.node.callspec.id}"
    outbox, ada = await our_user(tmp_path, server_url, key, other_user(key, FIRST))
    await ada.edit({"title": "Shopping"})
    await ada.edit({"text": "milk, bread"}, gone=["done"])
    other_user(key, {"tag": "work", "title": "Theirs", "more": "é😀"}, gone=["extra"])

    assert await ada.come_online() == 2
    merged = other_user(key)["data"]
    assert merged == {"title": "Shopping", "text": "milk, bread", "tag": "work", "more": "é😀"}

    # The other one goes on from there, and so do we, from what we had before.
    other_user(key, {"tag": "later"})
    await ada.edit({"text": "bread"}, gone=["tag"])
    assert await ada.come_online() == 1
    await outbox.close()
    assert other_user(key)["data"] == {"title": "Shopping", "text": "bread", "more": "é😀"}


async def test_a_deletion_by_others_is_kept_where_we_changed_something_else(
    tmp_path: Path, server_url: str, other_user: OtherUser, request: pytest.FixtureRequest
) -> None:
    key = f"notes/gone-{request.node.callspec.id}"
    first = {"items": {"a": {"n": 1, "m": 1}, "b": {"n": 2}}, "title": "List"}
    outbox, ada = await our_user(tmp_path, server_url, key, other_user(key, first))
    await ada.edit({"items": {"a": {"n": 1, "m": 2}, "b": {"n": 2}}})
    other_user(key, {"items": {"a": {"m": 1}}}, gone=["title"])

    assert await ada.come_online() == 1
    await outbox.close()
    assert other_user(key)["data"] == {"items": {"a": {"m": 2}}}

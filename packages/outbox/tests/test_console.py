"""The console's page about a file: each entry with the reason why it waits; the file is never changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from starfish_http.callers import Caller
from starfish_http.components import Facts, PageRequest, Section, Table, everybody, has_role
from starfish_http.errors import RequestRefusedError
from starfish_outbox import OutboxQueue, SqliteOutbox
from starfish_outbox.console import console_component


async def look(data: bytes | None, caller: Caller | None = None) -> Sequence[Section]:
    page = console_component(may_see=everybody if caller is None else has_role("operator")).pages[0]
    return await page.show(PageRequest(caller or Caller(), {}, data))


@pytest.fixture
async def outbox_file(tmp_path: Path) -> bytes:
    path = tmp_path / "outbox.sqlite"
    async with SqliteOutbox(path) as outbox:
        queue: OutboxQueue = OutboxQueue(outbox)
        await queue.hydrate("outbox.ada")
        await queue.enqueue("one", {"path": "notes/1", "body": {"n": 1}})
        await queue.enqueue("two", {"path": "notes/2", "body": {"n": 2}})
        await queue.mark_failed("two", reason="422: no title")
    return path.read_bytes()


async def test_entries_are_shown_with_the_reason_why_they_wait(outbox_file: bytes) -> None:
    facts, table = (await look(outbox_file))[:2]

    assert isinstance(facts, Facts)
    assert dict(facts.rows) == {"queued": 1, "failed": 1}
    assert isinstance(table, Table)
    assert [list(row)[:2] for row in table.rows] == [["one", "queued"], ["two", "failed"]]
    assert "422: no title" in str(list(table.rows[1])[4])


@pytest.mark.parametrize(
    "data", [b"", b"no outbox", b"SQLite format 3\0" + bytes(100)], ids=["empty", "text", "cut"]
)
async def test_something_else_is_refused(data: bytes) -> None:
    with pytest.raises(RequestRefusedError, match="not an outbox"):
        await look(data)


async def test_nothing_is_shown_before_a_file_is_there() -> None:
    assert await look(None) == []


@pytest.mark.parametrize(
    ("caller", "status"), [(Caller(), 401), (Caller("ben"), 403)], ids=["nobody", "ben"]
)
async def test_others_are_refused(outbox_file: bytes, caller: Caller, status: int) -> None:
    with pytest.raises(RequestRefusedError) as refused:
        await look(outbox_file, caller)
    assert refused.value.status == status


async def test_an_operator_may_look(outbox_file: bytes) -> None:
    assert await look(outbox_file, Caller("ada", ["operator"])) != []

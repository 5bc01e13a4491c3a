"""Rows, leases, and files that are full, damaged, foreign or too new."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from starfish_outbox import (
    OutboxClosedError,
    OutboxDamagedError,
    OutboxPersistenceError,
    OutboxQueue,
    SqliteOutbox,
    UnsupportedSchemaError,
)
from starfish_outbox.testing import QueueBackendContract

Open = Callable[[], SqliteOutbox]


class TestSqliteOutbox(QueueBackendContract):
    @pytest.fixture
    def open_backend(self, open_outbox: Open) -> Callable[[], Awaitable[SqliteOutbox]]:
        async def open_once_more() -> SqliteOutbox:
            return open_outbox()

        return open_once_more


async def bound(outbox: SqliteOutbox, now) -> OutboxQueue:
    queue = OutboxQueue(outbox, now_ms=now)
    await queue.hydrate("k")
    return queue


def states(queue: OutboxQueue) -> list[tuple[str, str, int]]:
    return [(entry.id, entry.status, entry.attempts) for entry in queue.get()]


async def test_every_commit_that_matters_is_synced(open_outbox: Open, now, monkeypatch) -> None:
    statements: list[str] = []
    outbox = open_outbox()
    queue = await bound(outbox, now)
    outbox._thread.engine.connection.set_trace_callback(statements.append)
    await queue.enqueue("a", 1)
    await queue.claim("a")
    await queue.remove("a")

    levels = [s for s in statements if s.startswith("PRAGMA synchronous")]
    commits = [s for s in statements if s == "COMMIT"]
    # enqueue runs at FULL from the start; the claim alone is below it
    assert levels == ["PRAGMA synchronous = NORMAL", "PRAGMA synchronous = FULL"]
    # the lone enqueue is a statement with a transaction of its own
    assert len(commits) == 2
    mode = outbox._thread.engine.connection.execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


async def test_changes_in_flight_share_a_transaction(open_outbox: Open, now) -> None:
    outbox = open_outbox()
    queue = await bound(outbox, now)
    statements: list[str] = []
    outbox._thread.engine.connection.set_trace_callback(statements.append)
    await asyncio.gather(*(queue.enqueue(str(n), n) for n in range(64)))

    assert statements.count("COMMIT") <= 3
    assert [e.item for e in queue.get()] == list(range(64))


async def test_a_lease_that_ended_can_be_claimed_by_another(open_outbox: Open, now) -> None:
    first, second = await bound(open_outbox(), now), await bound(open_outbox(), now)
    await first.enqueue("a", 1)
    assert await first.claim("a")
    assert not await second.claim("a")
    now.ms += 29_999
    assert not await second.claim("a")
    now.ms += 1

    assert await second.claim("a")
    assert not await first.claim("a")  # it is still sending, as far as it knows


async def test_hydrate_leaves_the_claims_of_the_living(open_outbox: Open, now) -> None:
    first = await bound(open_outbox(), now)
    await first.enqueue("a", 1)
    await first.claim("a")

    assert states(await bound(open_outbox(), now)) == [("a", "sending", 0)]
    now.ms += 30_000
    assert states(await bound(open_outbox(), now)) == [("a", "queued", 0)]


async def test_a_closed_outbox_gives_its_claims_back(open_outbox: Open, now) -> None:
    outbox = open_outbox()
    first = await bound(outbox, now)
    await first.enqueue("a", 1)
    await first.claim("a")
    await outbox.close()

    assert states(await bound(open_outbox(), now)) == [("a", "queued", 0)]


async def test_hydrating_again_gives_the_claims_back(open_outbox: Open, now) -> None:
    queue = await bound(open_outbox(), now)
    await queue.enqueue("a", 1)
    await queue.claim("a")
    await queue.hydrate("k")

    assert states(queue) == [("a", "queued", 0)]


async def test_a_lease_is_extended_while_its_holder_lives(tmp_path: Path) -> None:
    async with (
        SqliteOutbox(tmp_path / "o.sqlite", lease_ms=150) as one,
        SqliteOutbox(tmp_path / "o.sqlite", lease_ms=150) as two,
    ):
        first, second = OutboxQueue(one), OutboxQueue(two)
        await first.hydrate("k")
        await second.hydrate("k")
        await first.enqueue("a", 1)
        await first.claim("a")
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            assert not await second.claim("a")
            await asyncio.sleep(0.02)
        await first.record_failure("a", 5)
        await asyncio.sleep(0.1)

        assert not one._sessions.beat()
        assert await second.claim("a")


async def lost_lease(open_outbox: Open, now) -> tuple[OutboxQueue, OutboxQueue]:
    """The first queue claimed, lost its lease, and the second one claimed."""
    first, second = await bound(open_outbox(), now), await bound(open_outbox(), now)
    await first.enqueue("a", "write", 1)
    assert await first.claim("a")
    now.ms += 30_000
    assert await second.claim("a")
    return first, second


@pytest.mark.parametrize("late", ["record_failure", "mark_failed", "release", "retry"])
async def test_a_lost_lease_does_not_disturb_the_new_sender(
    open_outbox: Open, now, late: str
) -> None:
    first, second = await lost_lease(open_outbox, now)
    await getattr(first, late)(*("a", 1) if late == "record_failure" else ("a",))

    await second.refresh()
    assert states(second) == [("a", "sending", 0)]
    await second.remove("a")
    await first.refresh()
    assert states(first) == []


@pytest.mark.parametrize("late", ["record_failure", "release"])
async def test_a_lost_lease_does_not_undo_the_result(open_outbox: Open, now, late: str) -> None:
    first, second = await lost_lease(open_outbox, now)
    await second.mark_failed("a")
    await getattr(first, late)(*("a", 9) if late == "record_failure" else ("a",))

    await second.refresh()
    assert states(second) == [("a", "failed", 1)]


async def test_what_was_sent_may_be_removed_after_the_lease(open_outbox: Open, now) -> None:
    first, second = await lost_lease(open_outbox, now)
    await first.remove("a")
    await second.record_failure("a", 5)

    await second.refresh()
    assert states(second) == []


async def test_a_late_removal_spares_a_new_write_of_the_same_id(open_outbox: Open, now) -> None:
    first, second = await lost_lease(open_outbox, now)
    await second.remove("a")
    await second.enqueue("a", "another write", 2)
    await first.remove("a")

    await second.refresh()
    assert [e.item for e in second.get()] == ["another write"]


async def test_entries_of_others_are_seen_after_a_refresh(open_outbox: Open, now) -> None:
    first, second = await bound(open_outbox(), now), await bound(open_outbox(), now)
    await first.enqueue("a", 1)

    assert second.get() == []
    heard = []
    second.subscribe(lambda: heard.append(1))
    await second.refresh()
    await second.refresh()
    assert second.get() == first.get()
    assert heard == [1]


async def test_a_full_file_is_a_typed_error_and_changes_nothing(open_outbox: Open, now) -> None:
    outbox = open_outbox()
    queue = await bound(outbox, now)
    await queue.enqueue("a", 1)
    outbox._thread.engine.connection.execute("PRAGMA max_page_count=10")
    with pytest.raises(OutboxPersistenceError, match="full") as caught:
        await queue.enqueue("big", "x" * 100_000)
    assert isinstance(caught.value.__cause__, sqlite3.Error)

    results = await asyncio.gather(
        queue.enqueue("b", 1),
        queue.enqueue("big", "x" * 100_000),
        queue.enqueue("c", 1),
        return_exceptions=True,
    )
    assert [type(r) for r in results] == [bool, OutboxPersistenceError, bool]
    assert [e.id for e in queue.get()] == ["a", "b", "c"]
    assert (await bound(open_outbox(), now)).get() == queue.get()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"not a database" * 100, OutboxDamagedError),
        (b"SQLite format 3\0" + b"\xff" * 5000, OutboxDamagedError),
    ],
    ids=["text", "damaged header"],
)
async def test_a_file_that_is_no_outbox_is_refused_and_left_alone(
    tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    path = tmp_path / "o.sqlite"
    path.write_bytes(content)
    async with SqliteOutbox(path) as outbox:
        with pytest.raises(error):
            await OutboxQueue(outbox).hydrate("k")

    assert path.read_bytes() == content


async def test_a_sqlite_file_of_another_application_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    async with SqliteOutbox(path) as outbox:
        with pytest.raises(OutboxDamagedError, match="another application"):
            await OutboxQueue(outbox).hydrate("k")

    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused(tmp_path: Path, open_outbox: Open, now) -> None:
    outbox = open_outbox()
    await bound(outbox, now)
    await outbox.close()
    with sqlite3.connect(tmp_path / "outbox.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()

    with pytest.raises(UnsupportedSchemaError, match="99 is newer than 2") as caught:
        await bound(open_outbox(), now)
    assert (caught.value.found, caught.value.supported) == (99, 2)


async def test_damaged_pages_are_a_typed_error(tmp_path: Path, open_outbox: Open, now) -> None:
    outbox = open_outbox()
    queue = await bound(outbox, now)
    for number in range(200):
        await queue.enqueue(str(number), "x" * 200)
    await outbox.close()
    path = tmp_path / "outbox.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(OutboxDamagedError):
        await bound(open_outbox(), now)


async def test_a_row_that_does_not_parse_is_put_aside(
    tmp_path: Path, open_outbox: Open, now
) -> None:
    outbox = open_outbox()
    queue = await bound(outbox, now)
    await queue.enqueue("a", 1)
    await queue.enqueue("b", 2)
    await outbox.close()
    with sqlite3.connect(tmp_path / "outbox.sqlite") as connection:
        connection.execute("UPDATE starfish_outbox_entries SET item = '{broken' WHERE id = 'a'")
    connection.close()
    queue = await bound(open_outbox(), now)

    assert [e.id for e in queue.get()] == ["b"]
    assert "not JSON" in queue.quarantined[0].reason
    with sqlite3.connect(tmp_path / "outbox.sqlite") as connection:
        (kept,) = connection.execute("SELECT entry FROM starfish_outbox_quarantine").fetchone()
    connection.close()
    assert "{broken" in kept


async def test_a_closed_outbox_refuses_everything(open_outbox: Open, now) -> None:
    outbox = open_outbox()
    queue = await bound(outbox, now)
    await outbox.close()
    await outbox.close()

    with pytest.raises(OutboxClosedError, match="closed"):
        await queue.enqueue("a", 1)


async def test_missing_folders_are_made(tmp_path: Path) -> None:
    async with SqliteOutbox(tmp_path / "not" / "yet" / "o.sqlite") as outbox:
        await OutboxQueue(outbox).hydrate("k")

    assert (tmp_path / "not" / "yet" / "o.sqlite").stat().st_mode & 0o777 == 0o600


async def test_a_folder_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    async with SqliteOutbox(tmp_path / "file" / "o.sqlite") as outbox:
        with pytest.raises(OutboxPersistenceError):
            await OutboxQueue(outbox).hydrate("k")


async def test_a_backoff_is_remembered_in_the_file(open_outbox: Open, now) -> None:
    first = await bound(open_outbox(), now)
    await first.enqueue("a", 1)
    await first.record_failure("a", 5, not_before=now.ms + 500)
    second = await bound(open_outbox(), now)

    assert second.not_before("a") == first.not_before("a") == now.ms + 500


def test_a_lease_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lease_ms is 0"):
        SqliteOutbox(tmp_path / "o.sqlite", lease_ms=0)


def test_a_constructor_touches_no_file(tmp_path: Path) -> None:
    SqliteOutbox(tmp_path / "o.sqlite")

    assert list(tmp_path.iterdir()) == []

"""What the file survives: damage, a full disk, other files, other handles."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from starfish_watcher import (
    ChainBrokenError,
    EventStore,
    StoreClosed,
    StoreDamagedError,
    StoreFullError,
    StoreUnavailableError,
)
from starfish_watcher.log.base import EventLog
from starfish_watcher.log.memory import MemoryEventLog
from starfish_watcher.log.sqlite import SqliteEventLog
from starfish_watcher.testing.samples import (
    CREDIT,
    Balance,
    History,
    at,
    credit,
    in_process,
    in_threads,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def fill(path: Path, events: int = 50) -> None:
    with EventStore.open(path) as store:
        store.append_batch([(at(f"e:{n % 5}"), CREDIT, {"amount": n}) for n in range(events)])


def writer_of(store: EventStore) -> sqlite3.Connection:
    log = store._log
    assert isinstance(log, SqliteEventLog)
    return log._writer


def test_both_logs_have_the_form_of_the_seam(path: Path) -> None:
    logs: list[EventLog] = [MemoryEventLog(), SqliteEventLog(path)]
    for log in logs:
        log.close()


def test_each_durability_has_its_synchronous_level(path: Path) -> None:
    with EventStore.open(path) as store:
        for durability, level in (("none", 1), ("commit", 2), ("batched", 1), ("commit", 2)):
            credit(store, "a", durability=durability)
            assert writer_of(store).execute("PRAGMA synchronous").fetchone() == (level,)
        assert writer_of(store).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_batched_append_is_flushed_soon(path: Path) -> None:
    with EventStore.open(path, durability="batched") as store:
        credit(store, "a")
        deadline = time.monotonic() + 10
        flushes = 0
        while not flushes and time.monotonic() < deadline:
            time.sleep(0.01)
            with sqlite3.connect(path) as connection:
                (flushes,) = connection.execute("SELECT flushes FROM log").fetchone()
            connection.close()

    assert flushes == 1


def test_what_no_durability_held_back_is_flushed_at_the_end(path: Path) -> None:
    with EventStore.open(path, durability="none") as store:
        credit(store, "a")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT flushes FROM log").fetchone() == (1,)
    connection.close()


def test_a_full_disk_fails_the_append_and_nothing_else(path: Path) -> None:
    with EventStore.open(path) as store:
        watcher = store.watch_projection(Balance, "a")
        credit(store, "a")
        writer = writer_of(store)
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        (room,) = writer.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone()
        assert room == pages + 2

        for _ in range(2):
            with pytest.raises(StoreFullError, match="full"):
                store.append(at("a"), CREDIT, {"amount": 1, "blob": bytes(100_000)})
        assert credit(store, "a") == 2
        assert watcher.recv(5).state == store.project(History, "a")["amounts"] == 2
        writer.execute("PRAGMA max_page_count = 1000000")
        store.append(at("a"), CREDIT, {"amount": 1, "blob": bytes(100_000)})

        assert [event.sequence for event in store.read()] == [1, 2, 3]
        assert store.verify_chain().events == 3


@pytest.mark.usefixtures("repetition")
def test_a_large_append_on_a_full_disk_does_not_fail_the_small_ones_beside_it(path: Path) -> None:
    with EventStore.open(path) as store:
        credit(store, "a")
        writer = writer_of(store)
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages + 4}")
        full: list[StoreFullError] = []

        def large() -> None:
            try:
                store.append(at("large"), CREDIT, {"amount": 1, "blob": bytes(500_000)})
            except StoreFullError as error:
                full.append(error)

        works = [large, *[lambda n=n: credit(store, f"small:{n}") for n in range(8)]] * 2  # type: ignore[misc]
        in_threads(*works)

        assert len(full) == 2
        assert store.last_sequence() == 17
        assert store.verify_chain().events == 17


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"these are not events" * 500)

    with pytest.raises(StoreDamagedError, match="not a database"):
        EventStore.open(path)
    assert path.read_bytes() == b"these are not events" * 500


def test_a_database_of_somebody_else_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(StoreDamagedError, match="not an event store"):
        EventStore.open(path)
    assert path.read_bytes() == before


def test_a_newer_format_is_refused(path: Path) -> None:
    fill(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(
        StoreDamagedError, match="has the format 99; this version reads formats 1 to 2"
    ):
        EventStore.open(path)


def test_folders_that_are_missing_are_made(tmp_path: Path) -> None:
    EventStore.open(tmp_path / "missing" / "below" / "events.db").close()

    assert (tmp_path / "missing" / "below" / "events.db").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreUnavailableError, match=r"file/events.db"):
        EventStore.open(tmp_path / "file" / "events.db")


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_file_that_was_cut_is_refused(path: Path, part: float) -> None:
    fill(path, 500)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])

    with pytest.raises(StoreDamagedError):
        EventStore.open(path)


@pytest.mark.parametrize("page", range(1, 12))
def test_a_page_of_zeros_is_refused(path: Path, page: int) -> None:
    fill(path, 500)
    data = bytearray(path.read_bytes())
    assert len(data) > 4096 * 13
    data[4096 * page : 4096 * (page + 1)] = bytes(4096)
    path.write_bytes(data)

    with pytest.raises(StoreDamagedError):
        EventStore.open(path)


def test_rows_that_are_missing_are_refused_not_overlooked(path: Path) -> None:
    fill(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM events WHERE sequence = 50")
    connection.close()

    with pytest.raises(StoreDamagedError, match="50 events were appended and 0 removed, but 49"):
        EventStore.open(path)
    with (
        EventStore.open(path, check="none") as store,
        pytest.raises(StoreDamagedError, match="but 9 were read"),
    ):
        store.project(History, "e:4")


def test_a_changed_payload_is_found_by_the_chain(path: Path) -> None:
    fill(path)
    data = path.read_bytes()
    assert data.count(b"\x81\xa6amount\x2a") == 1
    path.write_bytes(data.replace(b"\x81\xa6amount\x2a", b"\x81\xa6amount\x2b"))

    with EventStore.open(path) as store:
        with pytest.raises(ChainBrokenError, match="sequence 43: its content") as caught:
            store.verify_chain()
        assert (caught.value.entity, caught.value.sequence) == ("e:2", 43)


def test_a_lock_that_is_held_too_long_is_an_error_and_nothing_is_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starfish_watcher.log.sqlite._file.BUSY_TIMEOUT_S", 0.05)
    with EventStore.open(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            credit(store, "a")
        assert store.last_sequence() == 0
        other.execute("ROLLBACK")
        other.close()

        assert credit(store, "a") == 1


@pytest.mark.usefixtures("repetition")
def test_two_handles_of_one_process_see_each_other(path: Path) -> None:
    with EventStore.open(path) as one, EventStore.open(path) as other:
        watcher = other.watch_projection(Balance, "a")
        for number in range(1, 4):
            credit(one, "a")
            assert watcher.recv(10).generation == number
            credit(other, "b")

        assert [event.entity for event in one.read()] == ["a", "b"] * 3
        assert one.verify_chain().events == 6


@pytest.mark.usefixtures("repetition")
def test_many_may_make_the_file_at_once(path: Path) -> None:
    stores: list[EventStore] = []

    in_threads(*[lambda: stores.append(EventStore.open(path))] * 8)

    assert len({store.store_id for store in stores}) == 1
    for store in stores:
        credit(store, "a")
    assert stores[0].last_sequence() == 8
    for store in stores:
        store.close()


def test_a_handle_is_not_carried_over_a_fork(path: Path) -> None:
    with EventStore.open(path) as store:
        credit(store, "a")
        child = os.fork()
        if child == 0:
            try:
                credit(store, "a")
            except StoreClosed as error:
                os._exit(0 if "open it again after a fork" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert credit(store, "a") == 2


def test_nothing_listens_when_nobody_waits(path: Path) -> None:
    before = set(threading.enumerate())  # those of other tests of the run do not count

    def listening() -> bool:
        new = set(threading.enumerate()) - before
        return any(thread.name == "starfish-listener" for thread in new)

    with EventStore.open(path) as store:
        assert not listening()
        watchers = [store.watch_projection(Balance, "a") for _ in range(2)]
        assert listening()
        for watcher in watchers:
            watcher.close()
        deadline = time.monotonic() + 10
        while listening() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert not listening()
        store.watch_projection(Balance, "a")
    assert not listening()


def test_readers_do_not_wait_for_a_writer(path: Path) -> None:
    with EventStore.open(path) as store:
        credit(store, "a")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        assert store.project(Balance, "a") == 1
        assert len(store.read()) == 1
        other.execute("ROLLBACK")
        other.close()


FRAME = 24 + 4096


def killed_with_a_log(path: Path) -> bytes:
    """A store whose process died after 20 commits; its write-ahead log."""
    body = (
        "import os, signal\n"
        "for _ in range(20): credit(store, 'a')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    in_process(f"EventStore.open({str(path)!r})", body).communicate(timeout=30)
    return Path(f"{path}-wal").read_bytes()


@pytest.mark.parametrize(
    "place",
    [3, 20, 32 + 9, 32 + 30, 32 + 10 * FRAME + 2000, -2 * FRAME, -1],
    ids=["magic", "salt", "frame salt", "first page", "middle", "last commit", "last byte"],
)
def test_a_damaged_write_ahead_log_is_refused_and_kept(path: Path, place: int) -> None:
    log = Path(f"{path}-wal")
    damaged = bytearray(killed_with_a_log(path))
    damaged[place] ^= 0x40
    log.write_bytes(damaged)

    for _ in range(2):
        with pytest.raises(StoreDamagedError, match="write-ahead log is damaged"):
            EventStore.open(path)
        assert log.read_bytes() == damaged
    damaged[place] ^= 0x40
    log.write_bytes(damaged)
    with EventStore.open(path) as store:
        assert store.verify_chain().events == 20


def test_a_commit_that_was_not_finished_is_not_damage(path: Path) -> None:
    whole = killed_with_a_log(path)
    Path(f"{path}-wal").write_bytes(whole[: -FRAME // 2])

    with EventStore.open(path) as store:
        assert store.verify_chain().events == 19
        assert credit(store, "a") == 20


def test_older_frames_behind_the_newest_are_not_damage(path: Path) -> None:
    log = Path(f"{path}-wal")
    with EventStore.open(path) as store:
        for _ in range(20):
            credit(store, "a")
        size = log.stat().st_size
        writer_of(store).execute("PRAGMA wal_checkpoint(RESTART)")
        credit(store, "a")

        assert log.stat().st_size == size
        with EventStore.open(path) as other:
            assert other.last_sequence() == 21


def test_a_damaged_log_can_be_given_up_on_purpose(path: Path) -> None:
    damaged = bytearray(killed_with_a_log(path))
    damaged[-1] ^= 0x40
    Path(f"{path}-wal").write_bytes(damaged)

    with EventStore.open(path, check="none") as store:
        assert store.verify_chain().events == 19

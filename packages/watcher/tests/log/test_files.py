"""What the file of a SQLite store survives and refuses: moved, short, torn, long, old, and full of secrets."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from starfish_disk.testing import (
    ForkContract,
    FullDiskContract,
    ReplacedFileContract,
    SqliteFileContract,
)
from starfish_watcher import (
    ChainBrokenError,
    CheckpointError,
    EventStore,
    Projection,
    Region,
    StoreClosed,
    StoreDamagedError,
    StoreMovedError,
    StoreUnavailableError,
    WatcherError,
)
from starfish_watcher._delivery.checkpoint import Checkpoint, Position
from starfish_watcher.testing.samples import CREDIT, Balance, RawBalance, at, credit, in_process

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Names:
    """An event store as the contracts of files know a store: it keeps names."""

    def __init__(self, path: Path) -> None:
        self.store = EventStore.open(path)

    def write(self, name: str) -> None:
        self.store.append(at("names"), CREDIT, name)

    def names(self) -> Iterable[str]:
        return [event.payload for event in self.store.read(0, 1024)]

    def close(self) -> None:
        self.store.close()


class NewestPosition:
    """A checkpoint as the contract of replaced files knows a store: it keeps the newest name."""

    def __init__(self, path: Path) -> None:
        self.checkpoint = Checkpoint(path, store_id="0" * 32, reader="cursor *")

    def write(self, name: str) -> None:
        before = self.checkpoint.load()
        mark = name.encode()
        self.checkpoint.save(Position(1 if before is None else before.position + 1, mark=mark))

    def names(self) -> Iterable[str]:
        found = self.checkpoint.load()
        return [] if found is None else [found.mark.decode()]

    def close(self) -> None:
        pass


class OnEventStore:
    error = WatcherError

    @pytest.fixture
    def open_store(self) -> type[Names]:
        return Names


class TestSqliteFile(OnEventStore, SqliteFileContract): ...


class TestCheckpointFile(ReplacedFileContract):
    keeps_all = False
    error = WatcherError

    @pytest.fixture
    def open_store(self) -> type[NewestPosition]:
        return NewestPosition


class TestFork(OnEventStore, ForkContract): ...


class TestFullDisk(OnEventStore, FullDiskContract): ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def test_a_watcher_of_a_file_that_was_moved_is_told(path: Path) -> None:
    with EventStore.open(path) as store:
        credit(store, "a")
        watcher = store.watch_projection(Balance, "a")
        path.rename(path.with_name("moved.db"))

        with pytest.raises(StoreClosed, match="not in its place"):
            watcher.recv(10)
        with pytest.raises((StoreMovedError, StoreClosed)):
            credit(store, "a")


def killed(path: Path, durability: str, events: int) -> None:
    body = f"for _ in range({events}): credit(store, 'a')\nimport os\nos._exit(0)\n"
    expression = f"EventStore.open({str(path)!r}, durability={durability!r})"
    in_process(expression, body).communicate(timeout=30)


@pytest.mark.parametrize("size", [0, 1, 99])
def test_a_short_file_beside_a_log_of_commits_is_damage(path: Path, size: int) -> None:
    killed(path, "commit", 5)
    log = Path(f"{path}-wal")
    os.truncate(path, size)
    before = log.read_bytes()

    with pytest.raises(StoreDamagedError):
        EventStore.open(path)
    assert log.read_bytes() == before


@pytest.mark.parametrize("durability", ["batched", "none"])
def test_a_torn_tail_of_unsynced_commits_is_cut_and_recorded(
    path: Path, durability: str, caplog: pytest.LogCaptureFixture
) -> None:
    killed(path, durability, 30)
    log = Path(f"{path}-wal")
    content = bytearray(log.read_bytes())
    frame = 24 + int.from_bytes(content[8:12])
    count = (len(content) - 32) // frame
    content[32 + (count - 12) * frame : 32 + (count - 11) * frame] = bytes(frame)
    log.write_bytes(content)

    with caplog.at_level(logging.WARNING), EventStore.open(path) as store:
        events = store.read(0, 1024)
        assert [event.clock for event in events] == list(range(len(events)))
        assert 0 < len(events) < 30
        assert store.verify_chain().events == len(events)
        credit(store, "a")
    assert "lost power" in caplog.text
    with sqlite3.connect(path) as connection:
        ((at_sequence, commits, _),) = connection.execute("SELECT * FROM cuts").fetchall()
    connection.close()
    assert (at_sequence, commits > 0) == (len(events), True)


@pytest.mark.parametrize("byte", [0x7F, 0xC1])
def test_a_payload_that_was_changed_is_never_data(path: Path, byte: int) -> None:
    with EventStore.open(path) as store:
        for number in range(5):
            store.append(at("a"), CREDIT, {"amount": 5, "note": f"paid-{number}"})
    content = bytearray(path.read_bytes())
    content[content.index(b"\xa6amount\x05\xa4note\xa6paid-3") + 7] = byte
    path.write_bytes(content)

    with EventStore.open(path) as store:
        watcher = store.watch_projection(Balance, "a", since_generation=0)
        event_id = store.read(0, 3)[0].event_id
        assert store.get(event_id) is not None
        for action in (
            lambda: store.project(Balance, "a"),
            lambda: store.project(RawBalance, "a"),
            lambda: store.read(entity="a"),
            lambda: store.query(Region(kind=CREDIT)),
            lambda: store.cursor().poll(),
            lambda: watcher.recv(1),
        ):
            with pytest.raises(ChainBrokenError) as caught:
                action()
            assert caught.value.sequence == 4


def test_a_store_of_layout_1_opens_and_goes_on(path: Path, tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "events-layout-1.db", path)
    for name in ("cursor", "watcher"):
        shutil.copy(FIXTURES / f"{name}-format-1.checkpoint", tmp_path / name)

    with EventStore.open(path) as store:
        assert [event.sequence for event in store.read()] == [1, 3, 4, 5, 6, 7]
        assert store.verify_chain().events == 6
        assert [event.sequence for event in store.query(Region(kind=0xE))] == [7]
        cursor = store.cursor(Region(entity_prefix="account"), checkpoint=tmp_path / "cursor")
        assert [event.sequence for event in cursor.poll()] == [6, 7]
        cursor.ack()
        watcher = store.watch_projection_cursor(
            Balance, "account:0", checkpoint=tmp_path / "watcher"
        )
        assert watcher.try_recv() is None
        receipt = store.append(at("account:0"), CREDIT, {"amount": 1})
        assert receipt.sequence == 8
        assert watcher.recv(5).generation == 4
        watcher.ack()
    with EventStore.open(path) as store:
        assert (
            store.cursor(Region(entity_prefix="account"), checkpoint=tmp_path / "cursor").acked == 7
        )


def test_a_checkpoint_of_a_history_that_is_gone_is_refused(path: Path, tmp_path: Path) -> None:
    backup, place, other = tmp_path / "backup.db", tmp_path / "cursor", tmp_path / "watcher"
    with EventStore.open(path) as store:
        for _ in range(5):
            credit(store, "a")
    shutil.copy(path, backup)
    with EventStore.open(path) as store:
        for _ in range(5):
            credit(store, "a")
        cursor = store.cursor(checkpoint=place)
        assert len(cursor.poll()) == 10
        cursor.ack()
        watcher = store.watch_projection_cursor(Balance, "a", checkpoint=other)
        watcher.recv(1)
        watcher.ack()
    shutil.copy(backup, path)
    with EventStore.open(path) as store:
        for _ in range(7):
            credit(store, "a")
        with pytest.raises(CheckpointError, match="another event stands there"):
            store.cursor(checkpoint=place)
        with pytest.raises(CheckpointError, match="another event stands there"):
            store.watch_projection_cursor(Balance, "a", checkpoint=other)
        store.compact(lambda event: event.sequence != 10)
        with pytest.raises(CheckpointError, match="another event stands there"):
            store.cursor(checkpoint=place)


def test_compaction_leaves_nothing_of_a_payload_in_the_files(path: Path, tmp_path: Path) -> None:
    with EventStore.open(path, durability="none") as store:
        for entity in ("a", "b"):
            for _ in range(50):
                store.append(at(entity), CREDIT, {"secret": f"passport-{entity}"})
        store.compact(lambda event: event.entity != "a")

        found = [name for name in tmp_path.iterdir() if b"passport-a" in name.read_bytes()]
    assert found == []


def test_a_refused_open_keeps_no_descriptor(path: Path) -> None:
    with EventStore.open(path) as store:
        store.append_batch([(at(f"e:{n}"), CREDIT, {"pad": "x" * 200}) for n in range(500)])
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)

    with pytest.raises(StoreDamagedError) as kept:
        EventStore.open(path)
    links = list(Path("/proc/self/fd").iterdir())
    held = [link for link in links if link.exists() and str(path) in str(link.readlink())]
    assert (held, kept.value.location) == ([], str(path))


class Slow(Projection[int]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: object) -> int:
        time.sleep(0.02)
        return state + 1


def test_a_slow_fold_does_not_hold_the_write_ahead_log(path: Path) -> None:
    with EventStore.open(path, durability="none") as store:
        store.append_batch([(at("slow"), CREDIT, {})] * 60)
        folding = threading.Thread(target=lambda: store.project(Slow, "slow"))
        folding.start()
        time.sleep(0.1)
        reading = store._log._readers  # type: ignore[attr-defined]
        assert folding.is_alive()
        assert len(reading._idle) >= 1
        folding.join()


@pytest.mark.parametrize(
    "region", [Region(entity_prefix="rare"), Region(scope="odd"), Region(kind=0xE)]
)
def test_a_rare_region_is_found_by_an_index(path: Path, region: Region) -> None:
    from starfish_watcher import Coordinate, EventKind

    rare = (Coordinate("rare:1", "odd"), EventKind.custom(0xE, 1), None)
    with EventStore.open(path, durability="none") as store:
        store.append_batch([rare])
        for _ in range(3):
            store.append_batch([(at(f"bulk:{n % 50}"), CREDIT, None) for n in range(1000)])
        store.append_batch([rare])
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        with store._log._readers.connection() as connection:  # type: ignore[attr-defined]
            connection.set_progress_handler(count, 100)
            held = connection
        found = store.query(region)
        held.set_progress_handler(None, 0)

        assert [event.sequence for event in found] == [1, 3002]
        assert steps < 60


def test_a_shortage_of_descriptors_fails_the_call_and_not_the_store(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EventStore.open(path) as store, EventStore.open(path) as other:
        watcher = store.watch_projection(Balance, "a")
        log = store._log
        last = log.last_sequence

        def short() -> int:
            raise StoreUnavailableError(log.location, "too many open files")

        with monkeypatch.context() as shortage:
            shortage.setattr(log, "last_sequence", short)
            credit(other, "a")
            credit(store, "a")
            time.sleep(0.2)
        assert last() == 2
        assert watcher.recv(10).generation == 2
        assert credit(store, "a") == 3


def test_ids_ascend_although_the_clock_was_set_back(path: Path) -> None:
    from starfish_protocol.testing import ManualClock

    ids = []
    for ms in (1_700_000_000_000, 1_600_000_000_000):
        with EventStore.open(path, clock=ManualClock(ms)) as store:
            ids += [store.append(at("a"), CREDIT, None).event_id for _ in range(3)]

    assert ids == sorted(set(ids))

"""Opening, refusing, migrating and keeping a SQLite file."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from starfish_disk.errors import (
    BusyError,
    ClosedError,
    DamagedError,
    DiskError,
    ForeignError,
    ForkedError,
    FullError,
    MissingError,
    NewerLayoutError,
    PlaceChangedError,
    ReadOnlyError,
    UnavailableError,
)
from starfish_disk.sqlite_errors import from_sqlite_error
from starfish_disk.sqlite_file import SqliteFile

ID = 0x54455354
FIRST = ["CREATE TABLE item (name TEXT PRIMARY KEY, value BLOB)"]
SECOND = ["ALTER TABLE item ADD COLUMN size INTEGER", "UPDATE item SET size = length(value)"]


def store(path: Path, layouts: int = 1, **options: Any) -> SqliteFile:
    return SqliteFile(path, application_id=ID, layouts=[FIRST, SECOND][:layouts], **options)


def add(file: SqliteFile, connection: sqlite3.Connection, name: str, size: int = 10) -> None:
    with file.transaction(connection):
        connection.execute("INSERT INTO item (name, value) VALUES (?, zeroblob(?))", (name, size))


def names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM item ORDER BY name")]


def family(path: Path) -> list[Path]:
    return [found for end in ("", "-wal", "-shm") if (found := Path(f"{path}{end}")).exists()]


def contents(folder: Path) -> dict[str, bytes]:
    """All but the index of a log, which each process makes anew in shared memory."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if "-shm" not in path.name}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.sqlite"


def left_by_a_killed_process(path: Path, count: int = 20, size: int = 3000) -> None:
    """A file with commits that stand in its log only."""
    program = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from test_sqlite_file import add, store; path = Path(sys.argv[2]);"
        "file = store(path); connection = file.connect();"
        f"[add(file, connection, str(n), {size}) for n in range({count})];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, Path(__file__).parent, path],
        check=False,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_new_file_is_marked_durable_and_only_its_owners(path: Path) -> None:
    file = store(path, layouts=2)
    with closing(file.connect()) as connection:
        add(file, connection, "one")
        settings = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "journal_mode", "synchronous")
        ]
        modes = {each.stat().st_mode & 0o777 for each in family(path)}

        assert settings == [ID, 2, "wal", 2]
        assert modes == {0o600}
        assert len(family(path)) == 3


@pytest.mark.parametrize(("durability", "number"), [("full", 2), ("normal", 1)])
def test_durability_is_a_setting_of_each_connection(
    path: Path, durability: Any, number: int
) -> None:
    file = store(path, durability=durability)
    for _ in range(2):
        with closing(file.connect()) as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (number,)
    with closing(file.connect()) as connection:
        file.set_durability(connection, "full")
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_wider_modes_of_an_existing_file_are_narrowed(path: Path) -> None:
    left_by_a_killed_process(path)
    for each in family(path):
        each.chmod(0o644)

    with closing(store(path).connect()):
        assert {each.stat().st_mode & 0o777 for each in family(path)} == {0o600}


def test_older_layouts_are_brought_up_step_by_step(path: Path) -> None:
    file = store(path)
    with closing(file.connect()) as connection:
        add(file, connection, "one", 7)

    with closing(store(path, layouts=2).connect()) as connection:
        assert connection.execute("SELECT size FROM item").fetchall() == [(7,)]
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_step_that_fails_leaves_the_older_layout(path: Path) -> None:
    file = store(path)
    with closing(file.connect()) as connection:
        add(file, connection, "one")

    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO item (name) VALUES ('half')")
        raise KeyError("no")

    newer = SqliteFile(path, application_id=ID, layouts=[FIRST, SECOND, [refuse]])
    with pytest.raises(KeyError):
        newer.connect()

    with closing(store(path).connect()) as connection:
        assert names(path) == ["one"]
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def foreign_with_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")


def foreign_with_an_id(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 7")


def foreign_with_a_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")


def foreign_with_a_view(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW theirs AS SELECT 1")


def foreign_in_its_log(path: Path) -> None:
    program = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA journal_mode = WAL'); c.execute('CREATE TABLE theirs (x)');"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, path], check=False)
    assert Path(f"{path}-wal").stat().st_size


def of_a_later_version(path: Path) -> None:
    with closing(store(path).connect()) as connection:
        connection.execute("PRAGMA user_version = 9")


def not_a_database(path: Path) -> None:
    path.write_bytes(b"a letter to a friend. " * 1000)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (foreign_with_tables, ForeignError),
        (foreign_with_an_id, ForeignError),
        (foreign_with_a_version, ForeignError),
        (foreign_with_a_view, ForeignError),
        (foreign_in_its_log, ForeignError),
        (of_a_later_version, NewerLayoutError),
        (not_a_database, DamagedError),
    ],
)
def test_what_is_not_ours_is_refused_and_left_as_it_was(
    path: Path, make: Callable[[Path], None], error: type[DiskError]
) -> None:
    path.parent.mkdir()
    make(path)
    path.chmod(0o644)
    before = contents(path.parent)

    for _ in range(2):
        with pytest.raises(error) as caught:
            store(path).connect()
        assert str(path) in str(caught.value)

    assert contents(path.parent) == before
    assert path.stat().st_mode & 0o777 == 0o644
    assert not open_descriptors(path)


def open_descriptors(path: Path) -> list[str]:
    found = []
    for descriptor in Path("/dev/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith(str(path)):
            found.append(target)
    return found


def test_files_from_before_there_was_an_id_are_adopted(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(FIRST[0])
        connection.execute("INSERT INTO item VALUES ('old', x'0102')")

    def adopt(tables: Any, version: int) -> int | None:
        return 1 if tables >= {"item"} and version == 0 else None

    with pytest.raises(ForeignError):
        store(path).connect()
    with closing(store(path, layouts=2, adopt=adopt).connect()) as connection:
        assert connection.execute("SELECT name, size FROM item").fetchall() == [("old", 2)]
    with closing(store(path, layouts=2).connect()) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (ID,)


@pytest.mark.parametrize("size", [0, 1, 99])
@pytest.mark.parametrize("missing", [False, True])
def test_a_short_file_beside_a_log_is_damaged_and_both_stay(
    path: Path, *, size: int, missing: bool
) -> None:
    left_by_a_killed_process(path)
    os.truncate(path, size)
    if missing:
        path.unlink()
    before = contents(path.parent)

    with pytest.raises(DamagedError, match="write-ahead log"):
        store(path).connect()

    assert contents(path.parent) == before


def test_a_cut_file_beside_a_log_is_damaged(path: Path) -> None:
    file = store(path)
    with closing(file.connect()) as connection:
        for number in range(50):
            add(file, connection, f"{number}", 3000)
    copy = path.with_name("copy.sqlite")
    with closing(file.connect()) as connection:
        add(file, connection, "in the log")
        for each in family(path):
            shutil.copy(each, str(each).replace("store.sqlite", "copy.sqlite"))
    os.truncate(copy, copy.stat().st_size // 2)
    before = copy.read_bytes(), Path(f"{copy}-wal").read_bytes()

    with pytest.raises(DamagedError, match="cut off"):
        store(copy).connect()

    assert (copy.read_bytes(), Path(f"{copy}-wal").read_bytes()) == before


def test_a_cut_file_without_a_log_is_damaged(path: Path) -> None:
    file = store(path)
    with closing(file.connect()) as connection:
        for number in range(50):
            add(file, connection, f"{number}", 3000)
    os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(DamagedError):
        store(path).connect()

    assert not open_descriptors(path)


def test_a_file_whose_pages_are_all_in_the_log_is_whole(path: Path) -> None:
    left_by_a_killed_process(path)

    with closing(store(path, check="quick").connect()):
        assert len(names(path)) == 20


def test_a_flipped_byte_in_the_log_is_found_when_asked_for(path: Path) -> None:
    left_by_a_killed_process(path)
    log = Path(f"{path}-wal")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)

    with pytest.raises(DamagedError, match="commits lie beyond"):
        store(path, check="wal").connect()


@pytest.mark.parametrize("check", ["quick"])
def test_a_damaged_page_is_found_when_asked_for(path: Path, check: Any) -> None:
    file = store(path)
    with closing(file.connect()) as connection:
        for number in range(50):
            add(file, connection, f"{number}", 3000)
    with path.open("r+b") as opened:
        opened.seek(4096 * 3)
        opened.write(b"\xff" * 4096)

    with pytest.raises(DamagedError):
        store(path, check=check).connect()


def moved(path: Path) -> None:
    for each in family(path):
        each.rename(f"{each}.away")


def deleted(path: Path) -> None:
    for each in family(path):
        each.unlink()


def replaced(path: Path) -> None:
    shutil.copy(path, f"{path}.backup")
    Path(f"{path}.backup").replace(path)


def log_removed(path: Path) -> None:
    Path(f"{path}-wal").unlink()


@pytest.mark.parametrize("harm", [moved, deleted, replaced, log_removed])
def test_a_write_to_a_file_that_is_gone_is_never_acknowledged(
    path: Path, harm: Callable[[Path], None]
) -> None:
    file = store(path)
    with closing(file.connect()) as connection:
        add(file, connection, "one")
        harm(path)
        with pytest.raises(PlaceChangedError):
            add(file, connection, "two")
        if harm is not log_removed:
            with pytest.raises(PlaceChangedError):
                file.connect()


def test_a_file_that_goes_during_a_transaction_is_not_acknowledged(path: Path) -> None:
    file = store(path)

    def write(connection: sqlite3.Connection) -> None:
        with file.transaction(connection):
            connection.execute("INSERT INTO item (name) VALUES ('one')")
            moved(path)

    with closing(file.connect()) as connection, pytest.raises(PlaceChangedError):
        write(connection)


def test_a_file_may_be_closed_and_opened_again(path: Path) -> None:
    file = store(path)
    for number in range(3):
        with closing(file.connect()) as connection:
            add(file, connection, str(number))

    assert names(path) == ["0", "1", "2"]


def test_many_threads_open_a_new_file_at_once(path: Path) -> None:
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            file = store(path, layouts=2)
            with closing(file.connect()) as connection:
                add(file, connection, str(number))
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert len(names(path)) == 8


def _open_and_add(path: Path, number: int) -> None:
    file = store(path, layouts=2)
    with closing(file.connect()) as connection:
        add(file, connection, str(number))


def test_many_processes_open_a_new_file_at_once(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_open_and_add, args=(path, n)) for n in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join()

    assert [child.exitcode for child in children] == [0] * 6
    assert len(names(path)) == 6


def test_a_lock_of_another_is_waited_for_and_then_said(path: Path) -> None:
    file = store(path, busy_timeout_ms=50)
    with closing(file.connect()) as first, closing(file.connect()) as second:
        first.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError):
            add(file, second, "one")
        first.execute("ROLLBACK")
        add(file, second, "one")


def test_a_closed_connection_is_said_as_such(path: Path) -> None:
    file = store(path)
    connection = file.connect()
    connection.close()

    with pytest.raises(ClosedError):
        add(file, connection, "one")


def test_a_missing_file_is_not_made_when_not_asked_for(path: Path) -> None:
    with pytest.raises(MissingError):
        store(path).connect(create=False)

    assert not path.parent.exists()
    with pytest.raises(MissingError), store(path).read_only():
        pass


def test_reading_only_changes_nothing(path: Path) -> None:
    left_by_a_killed_process(path)
    before = contents(path.parent)

    with store(path, layouts=2).read_only() as connection:
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (20,)
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("DELETE FROM item")

    assert contents(path.parent) == before


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (foreign_with_tables, ForeignError),
        (not_a_database, DamagedError),
        (of_a_later_version, NewerLayoutError),
        (lambda path: path.touch(), DamagedError),
    ],
)
def test_reading_only_refuses_what_is_not_ours(
    path: Path, make: Callable[[Path], None], error: type[DiskError]
) -> None:
    path.parent.mkdir()
    make(path)
    before = contents(path.parent)

    with pytest.raises(error), store(path).read_only():
        pass

    assert contents(path.parent) == before


def test_the_log_is_brought_back_to_its_limit(path: Path) -> None:
    file = store(path, wal_limit_bytes=50_000)
    log = Path(f"{path}-wal")
    with closing(file.connect()) as writer, closing(file.connect()) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM item").fetchone()
        for number in range(30):
            add(file, writer, str(number), 5000)
        assert not file.keep_wal_bounded(writer)
        reader.execute("COMMIT")

        assert file.keep_wal_bounded(writer)
        assert log.stat().st_size <= 50_000
        add(file, writer, "more")
        assert writer.execute("PRAGMA busy_timeout").fetchone() == (10_000,)


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_sqlite_file import add, store
file = store(Path(sys.argv[2])); connection = file.connect()
add(file, connection, "before")
limit = Path(f"{sys.argv[2]}-wal").stat().st_size + 10_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    add(file, connection, "large", 500_000)
except Exception as error:
    print(type(error).__name__)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
add(file, connection, "after")
"""


def test_a_full_disk_is_a_typed_error_and_the_next_write_goes_on(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, Path(__file__).parent, path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.stdout.strip() in {FullError.__name__, UnavailableError.__name__}
    assert names(path) == ["after", "before"]


def test_a_child_gets_a_typed_error_at_once(path: Path) -> None:
    file = store(path)
    connection = file.connect()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            file.check_in_place()
        except ForkedError:
            try:
                file.connect()
            except ForkedError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    add(file, connection, "one")
    connection.close()


def test_a_link_to_the_file_has_the_log_of_the_file(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite"
    file = store(path)
    with closing(file.connect()) as connection:
        add(file, connection, "one")
    link.symlink_to(path)

    linked = store(link)
    with closing(linked.connect()) as connection:
        add(linked, connection, "two")
        log_removed(path)
        with pytest.raises(PlaceChangedError):
            add(linked, connection, "three")


@pytest.mark.parametrize("name", ["a?b.sqlite", "50%25.sqlite", "a#b.sqlite", "ä b.sqlite"])
def test_odd_names_are_names(tmp_path: Path, name: str) -> None:
    for number in range(2):
        file = store(tmp_path / name)
        with closing(file.connect()) as connection:
            add(file, connection, str(number))

    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("application_id", [0, -1, 2**31])
def test_an_application_id_out_of_range_is_refused(path: Path, application_id: int) -> None:
    with pytest.raises(ValueError, match="application_id"):
        SqliteFile(path, application_id=application_id, layouts=[FIRST])
    with pytest.raises(ValueError, match="layouts"):
        SqliteFile(path, application_id=1, layouts=[])


def sqlite_error(code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("text")
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, BusyError),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, BusyError),
        (sqlite3.SQLITE_FULL, FullError),
        (sqlite3.SQLITE_CORRUPT, DamagedError),
        (sqlite3.SQLITE_NOTADB, DamagedError),
        (sqlite3.SQLITE_READONLY, ReadOnlyError),
        (sqlite3.SQLITE_READONLY_DBMOVED, PlaceChangedError),
        (sqlite3.SQLITE_CANTOPEN, MissingError),
        (sqlite3.SQLITE_IOERR_WRITE, UnavailableError),
    ],
)
def test_each_error_of_sqlite_has_a_type(tmp_path: Path, code: int, kind: type[DiskError]) -> None:
    assert type(from_sqlite_error(tmp_path / "none", sqlite_error(code, "NAME"))) is kind


@pytest.fixture
def engine(path: Path) -> Iterator[Any]:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    file = store(path)
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    sqlalchemy.event.listen(engine, "do_connect", lambda *_: file.ensure())
    sqlalchemy.event.listen(engine, "connect", file.prepare)
    sqlalchemy.event.listen(engine, "begin", file.check_in_place)
    sqlalchemy.event.listen(engine, "commit", file.check_in_place)
    yield engine
    engine.dispose()


def test_an_engine_of_another_library_keeps_the_rules(path: Path, engine: Any) -> None:
    insert = "INSERT INTO item (name) VALUES ('one')"
    with engine.begin() as connection:
        connection.exec_driver_sql(insert)
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert {each.stat().st_mode & 0o777 for each in family(path)} == {0o600}
    engine.dispose()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM item").scalar() == 1

    moved(path)

    with pytest.raises(PlaceChangedError), engine.begin():
        pass
    engine.dispose()
    with pytest.raises(PlaceChangedError), engine.connect():
        pass


async def test_an_asyncio_engine_keeps_the_rules(path: Path) -> None:
    pytest.importorskip("aiosqlite")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    asyncio_extension = pytest.importorskip("sqlalchemy.ext.asyncio")
    file = store(path)
    engine = asyncio_extension.create_async_engine(f"sqlite+aiosqlite:///{path}")
    await asyncio.to_thread(file.ensure)
    sqlalchemy.event.listen(engine.sync_engine, "connect", file.prepare)
    sqlalchemy.event.listen(engine.sync_engine, "begin", file.check_in_place)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("INSERT INTO item (name) VALUES ('one')")
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == 2
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"

    moved(path)

    with pytest.raises(PlaceChangedError):
        async with engine.begin():
            pass
    await engine.dispose()

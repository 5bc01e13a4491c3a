"""Backup and restore of the file of a `SqliteObjectStore`.

Rule: a copy is complete and on disk before it gets its name, so whatever interrupts the work leaves
the old state.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from starfish_disk.durable import NewFile, hold_lock, make_folder, new_file
from starfish_disk.errors import DamagedError, DiskError, ForeignError, NewerLayoutError
from starfish_disk.errors import MissingError as MissingFileError
from starfish_disk.sqlite_errors import sqlite_errors_translated
from starfish_disk.sqlite_file import SqliteFile
from starfish_server.maintenance._errors import DamagedSourceError, MissingError, TakenError
from starfish_server.maintenance._store_place import StorePlace, require_new_file
from starfish_server.storage._positions import new_stamp
from starfish_server.storage._sqlite_layouts import APPLICATION_ID, LAYOUTS

__all__ = ("backup", "held", "publish_copy", "restore", "vacuum")


def backup(place: StorePlace, target: Path) -> int:
    """Copy a store into a file as it is at one moment; writers go on meanwhile.

    Args:
        place: of a SQLite store.
        target: a file that does not exist.

    Returns:
        The bytes of the copy.

    Raises:
        MissingError: the store or the target's folder is not there.
        TakenError: the target exists.
        DamagedSourceError: the store's file is damaged, or not one of ours.
        DiskError: the file system refuses.
    """
    place.require()
    require_new_file(target)
    publish_copy(place.path, target, replace=False)
    return target.stat().st_size


def restore(source: Path, place: StorePlace, *, replace: bool) -> None:
    """Put a backup in the place of a store, with a new epoch of its change log.

    Followers of the log notice that it is another one and begin anew.

    Args:
        source: made by `backup`.
        place: of a SQLite store that no process uses.
        replace: whether a store may be there; it is gone afterwards.

    Raises:
        MissingError: the backup is not there.
        TakenError: a store is there, or a process uses it.
        DamagedSourceError: the backup is damaged, or not one of ours.
        DiskError: the file system refuses.
    """
    if not source.is_file():
        raise MissingError(f"{source}: there is not a file here")
    with held(place.data):
        if not replace:
            place.require_absent()
        with _emptied_log(place.path):
            publish_copy(source, place.path, replace=replace, epoch=new_stamp())


def publish_copy(source: Path, target: Path, *, replace: bool, epoch: str | None = None) -> None:
    """Write a compact copy of a database under another name; complete, or not at all.

    Raises:
        TakenError: the target exists, and ``replace`` is false.
        DamagedSourceError: the source is damaged, or not one of ours.
        DiskError: the file system refuses.
    """
    with new_file(target.parent) as file:
        try:
            _copy(source, file, epoch)
        except (DamagedError, ForeignError, NewerLayoutError) as error:
            raise DamagedSourceError(str(source), error.reason) from error
        except MissingFileError as error:
            raise MissingError(f"{source}: {error.reason}") from error
        file.publish(target.name, replace=replace)


def vacuum(place: StorePlace) -> int:
    """Give the space of removed values back to the file system; writers wait meanwhile.

    Returns:
        The bytes of the file afterwards.

    Raises:
        DiskError: the file is busy, damaged, or the disk is full; it is as it was.
    """
    with (
        sqlite_errors_translated(place.path),
        closing(sqlite3.connect(place.path, isolation_level=None, timeout=10)) as connection,
    ):
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return place.path.stat().st_size


@contextmanager
def held(data: Path) -> Generator[None]:
    """Let one command at a time work on a data folder, which is made when missing.

    Raises:
        TakenError: another command does.
        DiskError: the file system refuses.
    """
    make_folder(data, mode=0o700)
    try:
        lock = hold_lock(data / ".maintenance.lock", timeout_s=0)
        lock.__enter__()
    except DiskError as error:
        raise TakenError(f"{data}: another command works on it: {error.reason}") from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _copy(source: Path, file: NewFile, epoch: str | None) -> None:
    opened = SqliteFile(source, application_id=APPLICATION_ID, layouts=LAYOUTS)
    with opened.read_only() as connection, sqlite_errors_translated(source):
        (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise DamagedSourceError(str(source), str(result))
        connection.execute("VACUUM INTO ?", (str(file.path),))
    if epoch is None:
        return
    # A backup of an older release is brought up to date where it stands, before it has its name.
    with (
        sqlite_errors_translated(file.path),
        closing(sqlite3.connect(file.path, isolation_level=None)) as copy,
    ):
        (layout,) = copy.execute("PRAGMA user_version").fetchone()
        copy.execute("PRAGMA synchronous = OFF")  # the file is synced as a whole
        copy.execute("PRAGMA journal_mode = MEMORY")
        copy.execute("BEGIN")
        for steps in LAYOUTS[layout:]:
            for step in steps:
                copy.execute(step)
        copy.execute(f"PRAGMA user_version = {len(LAYOUTS)}")
        copy.execute("UPDATE log SET epoch = ?", (epoch,))
        copy.execute("COMMIT")


@contextmanager
def _emptied_log(path: Path) -> Generator[None]:
    """Hold a database against every other process, its log folded into it and gone.

    A log that stays beside a replaced file would be taken for the log of the new one.

    Raises:
        TakenError: a process uses the database.
    """
    if not path.exists():
        yield
        return
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        with sqlite_errors_translated(path):
            try:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                mode = "wal"
        if mode != "delete":
            raise TakenError(f"{path} is in use; stop the server first")
        yield
    finally:
        connection.close()

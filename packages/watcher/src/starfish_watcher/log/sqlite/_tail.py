"""Notice commits at the end of a write-ahead log that SQLite does not read, whatever its length.

SQLite takes a log up to the first frame whose checksum is wrong. When a commit lies beyond it,
either power was lost while commits were not synced, and pages reached the disk in another order,
or the log is damaged. The store knows which: ``log.unsynced`` was synced before the first commit
that was not.

How far SQLite reads stands in its index of the log, so that mostly no checksum is computed. Rule:
the index is read through SQLite's own descriptor; closing another one of that file would take away
this process's locks on it. Where a system does not show descriptors, the log is always summed up.
The format: https://sqlite.org/walformat.html
"""

from __future__ import annotations

import os
import sqlite3
import struct
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from starfish_disk.sqlite_wal import find_break, wal_path, wal_size
from starfish_watcher.errors import StoreDamagedError

__all__ = ("unread_commits",)

_WAL_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER: Final = struct.Struct(">6I")
_INDEX_FRAMES: Final = 16
"""Where the index says how many frames are valid, in the machine's byte order."""
_DESCRIPTORS: Final = Path("/proc/self/fd")
_ATTEMPTS: Final = 4
"""Another process may be writing while this reads; a cut stays."""


def unread_commits(database: Path) -> int:
    """How many commits beyond the readable end an interrupted, unsynced log has; mostly 0.

    Raises:
        StoreDamagedError: commits that were synced cannot be read; nothing was touched.
    """
    if wal_size(database) <= _WAL_HEADER.size or _is_too_short(database):
        return 0
    before: tuple[int, int] | None = None
    for _ in range(_ATTEMPTS):
        found, unsynced = _look(database)
        if found is None:
            return 0
        if found == before:
            if unsynced:
                return found[1]
            raise StoreDamagedError(
                str(database),
                f"frame {found[0] + 1} of its write-ahead log is damaged and {found[1]} commits "
                "lie beyond it; restore the file and its log from a backup",
            )
        before = found
        time.sleep(0.05)
    return 0


def _is_too_short(database: Path) -> bool:
    """SQLite throws the log away that stands beside an empty file; opening it refuses that."""
    try:
        return database.stat().st_size < 100
    except OSError:
        return True


def _look(database: Path) -> tuple[tuple[int, int] | None, bool]:
    """The last readable frame and the commits beyond it, and whether commits are unsynced."""
    uri = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            columns = [row[1] for row in connection.execute("PRAGMA table_info(log)")]
            flag = "unsynced" if "unsynced" in columns else "0"
            row = connection.execute(f"SELECT {flag} FROM log").fetchone() if columns else None  # noqa: S608 - one of two names
            frames = _readable_frames(database)
            found = None
            # A writer that waits for its fsync has commits beyond the end as well. Only where there
            # are any the log is summed up, which tells those from damage.
            if not frames or _commits_beyond(database, frames):
                broken = find_break(database)
                found = None if broken is None else (broken.frame - 1, broken.commits_beyond)
    except sqlite3.DatabaseError:
        return None, False  # not ours, or more than the log is damaged: opening says so
    return found, bool(row and row[0])


def _readable_frames(database: Path) -> int | None:
    """How many frames SQLite reads, while a connection of this process has the file open."""
    index = str(wal_path(database)).removesuffix("-wal") + "-shm"
    try:
        descriptors = list(_DESCRIPTORS.iterdir())
    except OSError:
        return None
    for link in descriptors:
        try:
            header = os.pread(int(link.name), 48, 0) if str(link.readlink()) == index else b""
        except OSError:
            continue
        if len(header) == 48:
            return int.from_bytes(header[_INDEX_FRAMES : _INDEX_FRAMES + 4], sys.byteorder)
    return None


def _commits_beyond(database: Path, frames: int) -> int:
    """Frames after the first ``frames`` that end a transaction of the same log."""
    count = 0
    with wal_path(database).open("rb", buffering=0) as file:
        _, _, page_size, _, *salts, _, _ = _WAL_HEADER.unpack(file.read(_WAL_HEADER.size))
        frame_size = _FRAME_HEADER.size + page_size
        at = _WAL_HEADER.size + frames * frame_size
        end = os.fstat(file.fileno()).st_size
        while at + frame_size <= end:  # one that was not written whole was never committed
            header = os.pread(file.fileno(), _FRAME_HEADER.size, at)
            _, commit, *found, _, _ = _FRAME_HEADER.unpack(header)
            count += bool(commit) and found == salts
            at += frame_size
    return count

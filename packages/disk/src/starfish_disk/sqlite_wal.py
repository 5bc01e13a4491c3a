"""Look into a write-ahead log without SQLite, which leaves out in silence what it cannot use.

SQLite reads a log up to the first frame whose checksum is wrong and takes the rest for the remains
of a crash. After a crash of the process nothing committed lies beyond that frame; where a commit
does, the file was damaged, or power was lost while commits were not synced.
The format: https://sqlite.org/fileformat2.html#the_write_ahead_log

Rule: only the ``-wal`` file is read here, never the database itself. SQLite holds no locks on the
log, but closing a descriptor of the database would take away this process's locks on that.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from starfish_disk.errors import DamagedError

__all__ = (
    "WalBreak",
    "check_wal",
    "find_break",
    "pages_in_wal",
    "shared_memory_path",
    "wal_path",
    "wal_size",
)

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC: Final = {0x377F0682: "little", 0x377F0683: "big"}
_MASK: Final = 0xFFFFFFFF
_ATTEMPTS: Final = 4
"""Another process may be writing while this reads; damage is a thing that stays."""


class WalBreak(NamedTuple):
    """The first frame that SQLite would not read, with commits beyond it."""

    frame: int
    """Counted from 1; 0 for the header of the log."""
    commits_beyond: int
    """Commits that SQLite would leave out."""


def wal_path(database: str | os.PathLike[str]) -> Path:
    """Where SQLite keeps the log: beside the file itself, when the path is a link to it."""
    return Path(f"{os.path.realpath(database)}-wal")


def shared_memory_path(database: str | os.PathLike[str]) -> Path:
    """Where SQLite keeps the index of the log, in memory that its connections share."""
    return Path(f"{os.path.realpath(database)}-shm")


def wal_size(database: str | os.PathLike[str]) -> int:
    """Length of the log in bytes, 0 when there is none."""
    try:
        return wal_path(database).stat().st_size
    except OSError:
        return 0


def pages_in_wal(database: str | os.PathLike[str]) -> set[int]:
    """Numbers of the pages that the log's commits hold, the first page being 1.

    Checksums are not looked at, so this takes milliseconds for megabytes.
    """
    pages: set[int] = set()
    uncommitted: list[int] = []
    try:
        with wal_path(database).open("rb") as file:
            for page, commit in _frames(file.fileno()):
                uncommitted.append(page)
                if commit:
                    pages.update(uncommitted)
                    uncommitted.clear()
    except OSError:
        return set()
    return pages


def _frames(descriptor: int) -> Iterator[tuple[int, int]]:
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size:
        return
    _, _, page_size, _, salt1, salt2, _, _ = _HEADER.unpack(header)
    at = _HEADER.size
    while len(frame := os.pread(descriptor, _FRAME.size, at)) == _FRAME.size:
        page, commit, *salts, _, _ = _FRAME.unpack(frame)
        if salts != [salt1, salt2]:
            return
        yield page, commit
        at += _FRAME.size + page_size


def check_wal(database: str | os.PathLike[str]) -> None:
    """Return when all commits that stand in the log can be read; about 60 MB a second.

    Raises:
        DamagedError: some cannot; nothing was touched.
    """
    before: WalBreak | None = None
    for _ in range(_ATTEMPTS):
        found = find_break(database)
        if found is None:
            return
        if before is not None and found.frame == before.frame:
            raise DamagedError(
                database,
                f"frame {found.frame} of its write-ahead log is damaged and "
                f"{found.commits_beyond} commits lie beyond it",
            )
        before = found
        time.sleep(0.02)


def find_break(database: str | os.PathLike[str]) -> WalBreak | None:
    """The first frame that SQLite would not read, if a commit lies beyond it.

    Another process that is writing right now may look like a break: ask again, as `check_wal` does.
    """
    try:
        data = wal_path(database).read_bytes()
    except OSError:
        return None
    if len(data) < _HEADER.size:
        return None
    magic, _, page_size, _, salt1, salt2, sum1, sum2 = _HEADER.unpack_from(data)
    frame_size = _FRAME.size + page_size
    order = _MAGIC.get(magic)
    if order is None or _checksum(data[:24], order, (0, 0)) != (sum1, sum2):
        return _beyond_a_damaged_header(data)
    running = (sum1, sum2)
    for index in range((len(data) - _HEADER.size) // frame_size):
        start = _HEADER.size + index * frame_size
        _, _, *rest = _FRAME.unpack_from(data, start)
        if rest[:2] == [salt1, salt2]:
            running = _checksum(data[start : start + 8], order, running)
            running = _checksum(data[start + _FRAME.size : start + frame_size], order, running)
            if rest[2:] == [*running]:
                continue
        commits = _commits(data, index, frame_size, (salt1, salt2))
        return WalBreak(index + 1, commits) if commits else None
    return None


def _beyond_a_damaged_header(data: bytes) -> WalBreak | None:
    """Without a header nothing of the log would be read; its frames still say their salts."""
    for power in range(9, 17):
        frame_size = _FRAME.size + (1 << power)
        if len(data) < _HEADER.size + 2 * frame_size:
            continue
        _, _, salt1, salt2, *_ = _FRAME.unpack_from(data, _HEADER.size)
        _, _, *second = _FRAME.unpack_from(data, _HEADER.size + frame_size)
        if (salt1 or salt2) and second[:2] == [salt1, salt2]:
            commits = _commits(data, 0, frame_size, (salt1, salt2))
            return WalBreak(0, commits) if commits else None
    return None


def _commits(data: bytes, first: int, frame_size: int, salts: tuple[int, int]) -> int:
    """Frames from ``first`` on that end a transaction of the same generation of the log."""
    count = 0
    for start in range(_HEADER.size + first * frame_size, len(data) - frame_size + 1, frame_size):
        _, commit, salt1, salt2, *_ = _FRAME.unpack_from(data, start)
        count += bool(commit) and (salt1, salt2) == salts
    return count


def _checksum(data: bytes, order: str, running: tuple[int, int]) -> tuple[int, int]:
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first, second = running
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) & _MASK
        second = (second + words[index + 1] + first) & _MASK
    return first, second

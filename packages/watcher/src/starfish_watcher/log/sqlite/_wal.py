"""See whether a write-ahead log holds commits that SQLite would silently leave out.

SQLite reads a write-ahead log up to the first frame whose checksum is wrong and takes the rest for
what a crash left behind. After a crash of the process nothing committed lies beyond that frame;
where a commit does, the file was damaged, or power was lost while its last commit was written.
The format: https://sqlite.org/fileformat2.html#the_write_ahead_log

Rule: only read the ``-wal`` file, before SQLite opens it. SQLite holds no locks on it, so that
closing it again takes none away from this process's other connections.
"""

from __future__ import annotations

import struct
import sys
import time
from array import array
from pathlib import Path
from typing import Final, NamedTuple

from starfish_watcher.errors import StoreDamagedError

__all__ = ("check_wal",)

HEADER: Final = struct.Struct(">8I")
FRAME: Final = struct.Struct(">6I")
MAGIC: Final = {0x377F0682: "little", 0x377F0683: "big"}
MASK: Final = 0xFFFFFFFF
ATTEMPTS: Final = 4
"""Another process may be writing while this reads; damage is what stays."""


class _Break(NamedTuple):
    frame: int
    commits_beyond: int


def check_wal(database: Path) -> None:
    """Return when all commits that stand in the write-ahead log can be read.

    Raises:
        StoreDamagedError: some cannot; nothing was touched.
    """
    path = Path(f"{database}-wal")
    before: _Break | None = None
    for _ in range(ATTEMPTS):
        try:
            data = path.read_bytes()
        except OSError:
            return
        found = _first_break(data)
        if found is None:
            return
        if before is not None and found.frame == before.frame:
            raise StoreDamagedError(
                str(database),
                f"frame {found.frame} of its write-ahead log is damaged and "
                f"{found.commits_beyond} commits lie beyond it; restore the file, or, when power "
                'was lost during the last commit, open it with check="none" to go on without them',
            )
        before = found
        time.sleep(0.02)


def _first_break(data: bytes) -> _Break | None:
    """The first frame that SQLite would not accept, if a commit lies beyond it."""
    if len(data) < HEADER.size:
        return None
    magic, _, page_size, _, salt1, salt2, sum1, sum2 = HEADER.unpack_from(data)
    frame_size = FRAME.size + page_size
    order = MAGIC.get(magic)
    if order is None or _checksum(data[:24], order, (0, 0)) != (sum1, sum2):
        return _beyond_a_damaged_header(data)
    running = (sum1, sum2)
    count = (len(data) - HEADER.size) // frame_size
    for index in range(count):
        start = HEADER.size + index * frame_size
        _, _, *rest = FRAME.unpack_from(data, start)
        if rest[:2] == [salt1, salt2]:
            running = _checksum(data[start : start + 8], order, running)
            running = _checksum(data[start + FRAME.size : start + frame_size], order, running)
            if rest[2:] == [*running]:
                continue
        commits = _commits(data, index, frame_size, (salt1, salt2))
        return _Break(index + 1, commits) if commits else None
    return None


def _beyond_a_damaged_header(data: bytes) -> _Break | None:
    """Without a header nothing of the log would be read; its frames still say what they are."""
    for power in range(9, 17):
        frame_size = FRAME.size + (1 << power)
        if len(data) < HEADER.size + 2 * frame_size:
            continue
        _, _, salt1, salt2, *_ = FRAME.unpack_from(data, HEADER.size)
        _, _, *second = FRAME.unpack_from(data, HEADER.size + frame_size)
        if (salt1 or salt2) and second[:2] == [salt1, salt2]:
            commits = _commits(data, 0, frame_size, (salt1, salt2))
            return _Break(0, commits) if commits else None
    return None


def _commits(data: bytes, first: int, frame_size: int, salts: tuple[int, int]) -> int:
    """Frames from ``first`` on that end a transaction of the same generation of the log."""
    count = 0
    for start in range(HEADER.size + first * frame_size, len(data) - frame_size + 1, frame_size):
        _, commit, salt1, salt2, *_ = FRAME.unpack_from(data, start)
        count += bool(commit) and (salt1, salt2) == salts
    return count


def _checksum(data: bytes, order: str, running: tuple[int, int]) -> tuple[int, int]:
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first, second = running
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) & MASK
        second = (second + words[index + 1] + first) & MASK
    return first, second

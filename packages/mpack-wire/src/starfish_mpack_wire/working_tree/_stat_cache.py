"""What files held when they were last read, so that an unchanged file is not read again.

Rule: an entry is used only if a change would have shown. A file system tells times in steps, so a file
that changed within a step of being read could change once more and look the same: of such a file
no entry is kept, and it is read again next time.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starfish_mpack_wire._store.refusals import write_atomically
from starfish_mpack_wire.errors import StoreError

__all__ = ("FileStamp", "StatCache")

FINE_STEP_NS = 100_000_000
"""Ten times the timer step of common kernels."""
COARSE_STEP_NS = 2_000_000_000
"""The step of file systems that tell whole seconds, or every other one."""
VERSION = 1


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What the file system tells of a file without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> FileStamp:
        """The stamp in the answer of ``stat``."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    def settled_before(self, moment_ns: int) -> bool:
        """Whether a change after ``moment_ns`` must give another stamp."""
        latest = max(self.mtime_ns, self.ctime_ns)
        step = FINE_STEP_NS if self.ctime_ns % 1_000_000_000 else COARSE_STEP_NS
        return latest + step < moment_ns


class StatCache:
    """Blob ids by path and stamp, kept in one file.

    Args:
        path: the file. It is derived: one that is missing or damaged only costs time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = self._load()

    def lookup(self, path: str, stamp: FileStamp) -> str | None:
        """The blob id of an unchanged file."""
        entry = self._entries.get(path)
        if entry is None or entry[0] != stamp:
            return None
        return entry[1]

    def now_ns(self) -> int:
        """The time of the file system that the cache is on, which is the one that stamps are told in.

        Raises:
            OSError: no file can be made there.
        """
        with tempfile.TemporaryFile(dir=self._path.parent) as file:
            file.write(b"t")
            file.flush()
            return os.fstat(file.fileno()).st_mtime_ns

    def replace(self, entries: Mapping[str, tuple[FileStamp, str]], *, read_at_ns: int) -> None:
        """Keep entries read at ``read_at_ns`` or later, but for files that may still change unseen.

        A cache that cannot be written is left as it is.
        """
        settled = {
            path: entry for path, entry in entries.items() if entry[0].settled_before(read_at_ns)
        }
        if settled == self._entries:
            return
        self._entries = settled
        rows = [
            (path, stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.inode, blob)
            for path, (stamp, blob) in settled.items()
        ]
        try:
            write_atomically(self._path, json.dumps([VERSION, rows]).encode())
        except StoreError:
            return

    def _load(self) -> dict[str, tuple[FileStamp, str]]:
        try:
            version, rows = json.loads(self._path.read_bytes())
            if version != VERSION:
                return {}
            return {row[0]: (FileStamp(*row[1:5]), row[5]) for row in rows}
        except (OSError, ValueError, TypeError, IndexError):
            return {}

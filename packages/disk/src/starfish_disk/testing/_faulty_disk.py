"""A disk that fails on purpose, under the calls of this package; the same seed, the same failures.

It stands on a real folder, so that links, locks and permissions are real ones, and remembers beside
it which bytes and which names have been synced. Rule 1: a power cut keeps all that was synced, and
of the rest whatever the seed says: single sectors of a file, single changes of a folder, in any
order. Rule 2: closing never fails, or a dead process would keep its descriptors.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

from starfish_disk import _system

__all__ = ("Fault", "FaultyDisk", "PowerCut")

Fault: TypeAlias = Literal[
    "no space", "no descriptors", "interrupted", "input/output", "short", "clock jump"
]
"""``short``: a read gives, or a write takes, a part. ``interrupted``: a signal handler raised.
``clock jump``: an hour forward for waiting, a day either way for `FaultyDisk.time_ns`."""

_SECTOR: Final = 16
"""Bytes that reach the disk together; small, so that small files have several."""
_NUMBERS: Final[dict[Fault, int]] = {
    "no space": errno.ENOSPC,
    "no descriptors": errno.EMFILE,
    "interrupted": errno.EINTR,
    "input/output": errno.EIO,
}
_MAY: Final[dict[str, frozenset[Fault]]] = {
    "open": frozenset({"no descriptors", "interrupted"}),
    "create": frozenset({"no space", "no descriptors", "interrupted"}),
    "duplicate": frozenset({"no descriptors"}),
    "read": frozenset({"short", "interrupted", "input/output"}),
    "write": frozenset({"short", "interrupted", "no space"}),
    "sync": frozenset({"input/output", "interrupted"}),
    "change": frozenset({"no space", "input/output"}),
    "look": frozenset[Fault](),
    "lock": frozenset({"interrupted"}),
    "time": frozenset({"clock jump"}),
}
_Path: TypeAlias = str | os.PathLike[str]


class PowerCut(BaseException):
    """The machine stops here; every later call of the dead process raises it too."""


class _File:
    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.synced = content

    def after_a_cut(self, rng: random.Random) -> bytes:
        if bytes(self.content) == self.synced:
            return self.synced
        kept = bytearray(self.synced)
        kept.extend(bytes(max(0, rng.randint(len(kept), len(self.content)) - len(kept))))
        for start in range(0, len(kept), _SECTOR):
            if rng.random() < 0.5:
                kept[start : start + _SECTOR] = self.content[start : start + _SECTOR]
        return bytes(kept)


class _Folder:
    def __init__(self) -> None:
        self.names: dict[str, _Node] = {}
        self.synced: dict[str, _Node] = {}
        self.changes: list[tuple[int, str, _Node | None]] = []

    def change(self, number: int, name: str, node: _Node | None) -> None:
        self.changes.append((number, name, node))
        _apply(self.names, name, node)

    def sync(self) -> None:
        self.synced = dict(self.names)
        self.changes.clear()


_Node: TypeAlias = _File | _Folder


class FaultyDisk(_system.SystemCalls):
    """The calls of this package on one folder, with failures; for several threads.

    SQLite does its own calls and is not under it.

    Args:
        root: an existing folder; all that is in it counts as synced.
        seed: of all failures.
        rates: how often a call that can fail in a way does so, from 0 to 1.

    Examples:
        >>> import tempfile
        >>> from starfish_disk import replace_file
        >>> disk = FaultyDisk(tempfile.mkdtemp(), seed=1)
        >>> with disk.installed():
        ...     replace_file(disk.root / "settings", b"kept")
        >>> disk.cut_power()
        >>> (disk.root / "settings").read_bytes()
        b'kept'
    """

    def __init__(
        self, root: _Path, seed: int = 0, *, rates: Mapping[Fault, float] | None = None
    ) -> None:
        self.root = Path(root)
        """The folder."""
        self.calls = 0
        """How many calls were made."""
        self._rates = dict(rates or {})
        self._rng = random.Random(seed)  # noqa: S311  failures, not secrets
        self._lock = threading.RLock()
        self._descriptors: dict[int, _Node | None] = {}
        self._change = 0
        self._cut_at: int | None = None
        self._waited_s = 0.0
        self._clock_ns = time.time_ns()
        self._tree = _scan(self.root)

    @contextmanager
    def installed(self) -> Generator[FaultyDisk]:
        """Have every module of this package use it until the block ends."""
        before, _system.calls = _system.calls, self
        try:
            yield self
        finally:
            _system.calls = before

    def cut_at(self, call: int | None) -> None:
        """Raise `PowerCut` in that call, counted by ``calls``, and in all later ones."""
        self._cut_at = call

    def cut_power(self) -> None:
        """Leave in the folder what a power cut leaves; stores that were open are dead from here."""
        with self._lock:
            self._descriptors.clear()
            self._cut_at = None
            for path in self.root.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            self._restore(self._tree, self.root)
            self._tree = _scan(self.root)

    def time_ns(self) -> int:
        """The time of day, in nanoseconds since the epoch; jumps either way."""
        with self._lock:
            if self._fails("time"):
                self._clock_ns += self._rng.choice((-1, 1)) * 86_400 * 10**9
            return self._clock_ns + int(self._waited_s * 10**9)

    def _restore(self, folder: _Folder, path: Path) -> None:
        names, kept = dict(folder.synced), dict[int, bool]()
        for number, name, node in folder.changes:
            if kept.setdefault(number, self._rng.random() < 0.5):
                _apply(names, name, node)
        for name, node in names.items():
            if isinstance(node, _File):
                (path / name).write_bytes(node.after_a_cut(self._rng))
            else:
                (path / name).mkdir()
                self._restore(node, path / name)

    # The calls.

    def open(self, path: _Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """As `os.open`; files are tracked from here."""
        with self._lock:
            self._fail("create" if flags & os.O_CREAT else "open")
            folder, name = self._find(path, dir_fd)
            descriptor = super().open(path, flags, mode, dir_fd=dir_fd)
            node: _Node | None = folder
            if folder is not None and name:
                node = folder.names.get(name)
                if node is None and flags & os.O_CREAT:
                    node = _File()
                    self._note(folder, name, node)
            self._descriptors[descriptor] = node
            return descriptor

    def close(self, descriptor: int) -> None:
        """As `os.close`; never fails."""
        with self._lock:
            self._descriptors.pop(descriptor, None)
            super().close(descriptor)

    def duplicate(self, descriptor: int) -> int:
        """As `os.dup`."""
        with self._lock:
            self._fail("duplicate")
            twin = super().duplicate(descriptor)
            self._descriptors[twin] = self._descriptors.get(descriptor)
            return twin

    def read(self, descriptor: int, size: int) -> bytes:
        """As `os.read`; may be short."""
        with self._lock:
            return super().read(descriptor, self._some(size) if self._fail("read") else size)

    def write(self, descriptor: int, data: memoryview) -> int:
        """As `os.write`; may be short."""
        with self._lock:
            if self._fail("write"):
                data = data[: self._some(len(data))]
            at = os.lseek(descriptor, 0, os.SEEK_CUR)
            count = super().write(descriptor, data)
            node = self._descriptors.get(descriptor)
            if isinstance(node, _File):
                node.content[at : at + count] = data[:count]
            return count

    def sync(self, descriptor: int) -> None:
        """Synced bytes and names survive a power cut."""
        with self._lock:
            self._fail("sync")
            node = self._descriptors.get(descriptor)
            if isinstance(node, _File):
                node.synced = bytes(node.content)
            elif node is not None:
                node.sync()

    def rename(self, old: _Path, new: _Path, *, old_dir_fd: int, new_dir_fd: int) -> None:
        """As `os.rename`; both names change together, or a power cut undoes both."""
        with self._lock:
            self._fail("change")
            super().rename(old, new, old_dir_fd=old_dir_fd, new_dir_fd=new_dir_fd)
            self._move(old, new, old_dir_fd, new_dir_fd, keep=False)

    def link(self, old: _Path, new: _Path, *, old_dir_fd: int, new_dir_fd: int) -> None:
        """As `os.link`."""
        with self._lock:
            self._fail("change")
            super().link(old, new, old_dir_fd=old_dir_fd, new_dir_fd=new_dir_fd)
            self._move(old, new, old_dir_fd, new_dir_fd, keep=True)

    def unlink(self, path: _Path, *, dir_fd: int | None = None) -> None:
        """As `os.unlink`."""
        with self._lock:
            self._fail("look")
            super().unlink(path, dir_fd=dir_fd)
            self._note(*self._find(path, dir_fd), None)

    def make_folder(self, path: _Path, mode: int, *, dir_fd: int | None = None) -> None:
        """As `os.mkdir`."""
        with self._lock:
            self._fail("change")
            super().make_folder(path, mode, dir_fd=dir_fd)
            self._note(*self._find(path, dir_fd), _Folder())

    def remove_folder(self, path: _Path, *, dir_fd: int | None = None) -> None:
        """As `os.rmdir`."""
        with self._lock:
            self._fail("look")
            super().remove_folder(path, dir_fd=dir_fd)
            self._note(*self._find(path, dir_fd), None)

    def status(
        self, path: _Path, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> os.stat_result:
        """As `os.stat`."""
        self._fail("look")
        return super().status(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def status_of(self, descriptor: int) -> os.stat_result:
        """As `os.fstat`."""
        self._fail("look")
        return super().status_of(descriptor)

    def lock(self, descriptor: int, *, shared: bool) -> None:
        """As `fcntl.flock`."""
        self._fail("lock")
        super().lock(descriptor, shared=shared)

    def monotonic(self) -> float:
        """As `time.monotonic`, with the time that was slept, and jumps forward."""
        with self._lock:
            if self._fails("time"):
                self._waited_s += 3600
            return super().monotonic() + self._waited_s

    def sleep(self, seconds: float) -> None:
        """Let time pass without waiting for it."""
        with self._lock:
            self._waited_s += seconds
        super().sleep(0)

    # Pieces.

    def _fail(self, kind: str) -> bool:
        """Raise the failure that is due; whether the call is to be a short one."""
        with self._lock:
            if self._cut_at is not None and self.calls >= self._cut_at:
                raise PowerCut
            self.calls += 1
            fault = self._fails(kind)
            if fault is not None and fault in _NUMBERS:
                raise OSError(_NUMBERS[fault], os.strerror(_NUMBERS[fault]))
            return fault == "short"

    def _fails(self, kind: str) -> Fault | None:
        for fault in sorted(_MAY[kind]):
            rate = self._rates.get(fault, 0.0)
            if rate and self._rng.random() < rate:
                return fault
        return None

    def _some(self, size: int) -> int:
        return self._rng.randint(1, size) if size else 0

    def _find(self, path: _Path, dir_fd: int | None) -> tuple[_Folder | None, str]:
        """The folder that holds a path, and its name there; the root itself has no name."""
        if dir_fd is not None:
            above = self._descriptors.get(dir_fd)
            return (above, os.fspath(path)) if isinstance(above, _Folder) else (None, "")
        with suppress(ValueError):
            *above_names, name = (
                "",
                *Path(path).absolute().relative_to(self.root.absolute()).parts,
            )
            folder: _Node | None = self._tree
            for part in above_names[1:]:
                folder = folder.names.get(part) if isinstance(folder, _Folder) else None
            return (folder, name) if isinstance(folder, _Folder) else (None, "")
        return None, ""

    def _note(self, folder: _Folder | None, name: str, node: _Node | None) -> None:
        if folder is not None:
            self._change += 1
            folder.change(self._change, name, node)

    def _move(self, old: _Path, new: _Path, old_fd: int, new_fd: int, *, keep: bool) -> None:
        source, old_name = self._find(old, old_fd)
        target, new_name = self._find(new, new_fd)
        node = None if source is None else source.names.get(old_name)
        self._change += 1
        if target is not None:
            target.change(self._change, new_name, node)
        if source is not None and not keep:
            source.change(self._change, old_name, None)


def _apply(names: dict[str, _Node], name: str, node: _Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _scan(path: Path) -> _Folder:
    folder = _Folder()
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            folder.names[entry.name] = _scan(entry)
        elif entry.is_file():
            folder.names[entry.name] = _File(entry.read_bytes())
    folder.sync()
    return folder

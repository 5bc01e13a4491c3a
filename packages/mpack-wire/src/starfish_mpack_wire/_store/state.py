"""What moves in a store: branches, tags, the current branch, the shallow boundary; in one small file.

One file, so that a change of several refs is all or nothing, and so that names of branches never
become names of files: neither ``a`` beside ``a/b`` nor a file system that folds case is a problem.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from starfish_mpack_wire._store.refusals import (
    hold_store_lock,
    refuse_as_store_error,
    write_atomically,
)
from starfish_mpack_wire.errors import RefConflictError, StoreError

__all__ = ("StateFile", "StoreState")

FIRST_BRANCH = "main"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """One consistent view of everything that moves."""

    branch: str = FIRST_BRANCH
    """The branch that ``commit`` moves; it may have no commit yet."""
    refs: Mapping[str, str] = field(default_factory=dict[str, str])
    """Full name to commit id: ``heads/main``, ``tags/v1``, ``remotes/origin/main``."""
    shallow: frozenset[str] = frozenset()
    """Commits whose parents were left out on purpose."""
    partial: bool = False
    """Whether blobs were left out on purpose; they can be fetched one by one."""

    def with_ref(self, name: str, new: str | None, *, expected: str | None) -> StoreState:
        """This state with one ref moved; ``None`` stands for a ref that is not there.

        Raises:
            RefConflictError: the ref is not at ``expected``.
        """
        actual = self.refs.get(name)
        if actual != expected:
            raise RefConflictError(name, expected, actual)
        refs = {key: value for key, value in self.refs.items() if key != name}
        if new is not None:
            refs[name] = new
        return replace(self, refs=refs)


class StateFile:
    """The file that holds a `StoreState`; changes to it are made one after the other.

    Args:
        path: the file; it need not exist.
        lock: the file that is locked around a change; never removed.
        lock_timeout_s: seconds to wait for another process.
    """

    def __init__(self, path: Path, lock: Path, *, lock_timeout_s: float) -> None:
        self._path = path
        self._lock = lock
        self._lock_timeout_s = lock_timeout_s

    def read(self) -> StoreState:
        """The state now.

        Raises:
            StoreError: the file is damaged or of a later version.
        """
        with refuse_as_store_error("cannot read", self._path):
            try:
                data = self._path.read_bytes()
            except FileNotFoundError:
                return StoreState()
        try:
            return _decode(data)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self._path} is damaged: {error}") from error

    def change(self, change: Callable[[StoreState], StoreState]) -> StoreState:
        """Replace the state by what ``change`` makes of it; on disk when this returns.

        No other process changes the state meanwhile. When ``change`` raises, nothing is changed.

        Raises:
            StoreError: the file cannot be written, or is locked by another process for too long.
        """
        with hold_store_lock(self._lock, timeout_s=self._lock_timeout_s):
            old = self.read()
            new = change(old)
            if new != old:
                write_atomically(self._path, _encode(new))
            return new


def _encode(state: StoreState) -> bytes:
    document = {
        "version": VERSION,
        "branch": state.branch,
        "refs": dict(sorted(state.refs.items())),
        "shallow": sorted(state.shallow),
        "partial": state.partial,
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def _decode(data: bytes) -> StoreState:
    document = cast("dict[str, Any]", json.loads(data))
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r}, this program knows {VERSION}")
    return StoreState(
        branch=str(document["branch"]),
        refs={str(name): str(commit) for name, commit in document["refs"].items()},
        shallow=frozenset(map(str, document["shallow"])),
        partial=bool(document["partial"]),
    )

"""Which ids the keys of a file hold, as far as this process knows; no I/O.

It answers whether an id is there without an index in the file, which would more than double the pages
that an enqueue writes. Rule: every row up to number ``last`` is known; a row with a higher number is not.
"""

from __future__ import annotations

from collections.abc import Iterable

UNKNOWN = -1
"""Before the first look at the file."""


class KnownIds:
    """Row numbers by id, for the keys that are bound."""

    def __init__(self) -> None:
        self.last: int | None = UNKNOWN
        """The highest number that was given; ``None`` in a new file."""
        self._keys: dict[str, dict[str, int]] = {}
        self._bindings: dict[str, int] = {}
        self._commits: dict[str, int] = {}
        self._undo: list[tuple[dict[str, int], str, int | None]] = []
        self._last_before: int | None = UNKNOWN

    def bind(self, key: str) -> None:
        """Begin to keep the ids of a key."""
        self._bindings[key] = self._bindings.get(key, 0) + 1

    def unbind(self, key: str) -> None:
        """Forget the ids of a key, unless another session has it."""
        count = self._bindings.get(key, 0) - 1
        if count > 0:
            self._bindings[key] = count
        else:
            self._bindings.pop(key, None)
            self._keys.pop(key, None)

    def of(self, key: str) -> dict[str, int] | None:
        """The ids of a key, oldest first; ``None`` when they were not read yet."""
        return self._keys.get(key)

    def is_bound(self, key: str) -> bool:
        """Whether the ids of a key are to be kept."""
        return key in self._bindings

    def set(self, key: str, rows: Iterable[tuple[int, str]]) -> None:
        """Put the rows of a key in the place of those that were known."""
        if key in self._bindings:
            self._keys[key] = {entry_id: seq for seq, entry_id in rows}

    def trim(self, key: str, oldest: int) -> None:
        """Forget the ids in front whose rows are gone."""
        ids = self._keys.get(key)
        while ids:
            entry_id = next(iter(ids))
            if ids[entry_id] >= oldest:
                break
            del ids[entry_id]

    def generation(self, key: str) -> int:
        """Commits of this process under a key."""
        return self._commits.get(key, 0)

    def count_commit(self, key: str) -> int:
        """Count a commit under a key."""
        self._commits[key] = count = self._commits.get(key, 0) + 1
        return count

    # Inside a transaction.

    def begin(self) -> None:
        """Remember the changes from here on, to be able to take them back."""
        self._undo.clear()
        self._last_before = self.last

    def add(self, key: str, entry_id: str, seq: int) -> None:
        """Know another row."""
        ids = self._keys.get(key)
        if ids is not None:
            self._undo.append((ids, entry_id, ids.get(entry_id)))
            ids.pop(entry_id, None)
            ids[entry_id] = seq

    def discard(self, key: str, entry_id: str) -> None:
        """Forget a row."""
        ids = self._keys.get(key)
        if ids is not None and entry_id in ids:
            self._undo.append((ids, entry_id, ids.pop(entry_id)))

    def take_back(self) -> None:
        """Undo every change since `begin`."""
        for ids, entry_id, seq in reversed(self._undo):
            if seq is None:
                ids.pop(entry_id, None)
            else:
                ids[entry_id] = seq
        self._undo.clear()
        self.last = self._last_before

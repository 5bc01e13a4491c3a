"""Positions of readers that outlive their process.

A checkpoint file is one line: the BLAKE3 of the rest in 64 hex digits, a space, and a JSON object
with ``format`` (2), ``store`` (the store's id), ``reader`` (the kind of reader, with its region or
entity), ``projection`` (its name, where one is read), ``position``, and ``epoch``, ``sequence`` and
``mark``: the event that the position ended with, and the first bytes of its hash. It is written anew
beside the old one, fsynced, renamed over it, and the folder fsynced: a reader sees the old position
or the new one. Format 1 had no projection and no event; it is read, and trusted.

Rule: a position only grows. Of two readers that share a file, the one behind takes nothing back.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from blake3 import blake3

from starfish_disk.durable import replace_file
from starfish_disk.errors import DiskError
from starfish_watcher.errors import (
    CheckpointDamagedError,
    CheckpointError,
    CheckpointMismatchError,
)

__all__ = ("Checkpoint", "Position", "check_history")

FORMAT: Final = 2
MAX_BYTES: Final = 16 * 1024
"""Of a checkpoint file: two names of 1,024 bytes fit ten times."""


class Position(NamedTuple):
    """How far a reader has come, and the event that this ended with."""

    position: int
    """A sequence, or a generation."""
    epoch: int = 0
    """Of the generation."""
    sequence: int = 0
    """Of the event; 0 where it is not known."""
    mark: bytes = b""
    """The first bytes of its hash."""


def check_history(location: str, saved: Position, mark: bytes | None) -> None:
    """Return when the store still has the event that the position ended with.

    Args:
        location: Of the checkpoint.
        saved: The position.
        mark: What the store has at ``saved.sequence``; ``None`` where it does not know.

    Raises:
        CheckpointError: the store has another event there.
    """
    if saved.mark and mark is not None and mark != saved.mark:
        raise CheckpointError(
            location,
            f"it ended with event {saved.sequence} of a history that the store no longer has:"
            " another event stands there; the store was restored from an older copy",
        )


class Checkpoint:
    """One reader's position in one file; `save` returns when it is on disk."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        store_id: str,
        reader: str,
        projection: str | None = None,
    ) -> None:
        self._path = Path(path)
        self._identity = {"store": store_id, "reader": reader}
        self._projection = projection

    @property
    def location(self) -> str:
        """The file's path."""
        return str(self._path)

    def load(self) -> Position | None:
        """The position that was saved last, ``None`` when none was.

        Raises:
            CheckpointDamagedError: the file is not a whole checkpoint.
            CheckpointMismatchError: it belongs to another store, region, projection or reader.
            CheckpointError: the file cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CheckpointError(self.location, f"cannot be read: {error}") from error
        body = self._verified(data)
        stored = {name: body.get(name) for name in self._identity}
        if stored != self._identity:
            raise CheckpointMismatchError(
                self.location, _described(self._identity), _described(stored)
            )
        projection = body.get("projection")
        if projection != self._projection and body["format"] != 1:
            raise CheckpointMismatchError(
                self.location, f"projection {self._projection}", f"projection {projection}"
            )
        return Position(
            int(body["position"]),
            int(body.get("epoch", 0)),
            int(body.get("sequence", 0)),
            bytes.fromhex(body.get("mark", "")),
        )

    def _verified(self, data: bytes) -> dict[str, Any]:
        digest, _, text = data.removesuffix(b"\n").partition(b" ")
        if blake3(text).hexdigest().encode() != digest:
            raise CheckpointDamagedError(
                self.location, f"its {len(data)} bytes do not have the hash they begin with"
            )
        body: dict[str, Any] = json.loads(text)
        if body.get("format") not in (1, FORMAT):
            raise CheckpointError(
                self.location,
                f"its format is {body.get('format')}, this version reads 1 to {FORMAT}",
            )
        return body

    def save(self, position: Position) -> Position:
        """Replace the position unless a greater one is there; the one that is on disk then.

        Raises:
            CheckpointMismatchError: another reader has taken the file.
            CheckpointError: it cannot be written; the old position stays.
        """
        there = self.load()
        if there is not None and there[:2] > position[:2]:
            return there
        body = {
            "format": FORMAT,
            **self._identity,
            "projection": self._projection,
            "position": int(position.position),
            "epoch": position.epoch,
            "sequence": position.sequence,
            "mark": position.mark.hex(),
        }
        text = json.dumps(body, sort_keys=True).encode()
        line = blake3(text).hexdigest().encode() + b" " + text + b"\n"
        try:
            replace_file(self._path, line)
        except DiskError as error:
            raise CheckpointError(self.location, f"cannot be written: {error.reason}") from error
        return position


def _described(identity: dict[str, Any]) -> str:
    return f"{identity['reader']} of store {identity['store']}"

"""Positions of readers that outlive their process.

A checkpoint file is one line: the BLAKE3 of the rest in 64 hex digits, a space, and a JSON object
with ``format`` (1), ``store`` (the store's id), ``reader`` (what reads, with its region) and
``position``. It is written anew beside the old one, fsynced, renamed over it, and the folder
fsynced: whoever reads sees the old position or the new one.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from starfish_watcher.errors import (
    CheckpointDamagedError,
    CheckpointError,
    CheckpointMismatchError,
)

__all__ = ("Checkpoint",)

FORMAT: Final = 1
MAX_BYTES: Final = 16 * 1024
"""Of a checkpoint file: two names of 1,024 bytes fit ten times."""


class Checkpoint:
    """One reader's position in one file; `save` returns when it is on disk."""

    def __init__(self, path: str | os.PathLike[str], *, store_id: str, reader: str) -> None:
        self._path = Path(path)
        self._identity = {"store": store_id, "reader": reader}

    @property
    def location(self) -> str:
        """The file's path."""
        return str(self._path)

    def load(self) -> int | None:
        """The position that was saved last, ``None`` when none was.

        Raises:
            CheckpointDamagedError: the file is not a whole checkpoint.
            CheckpointMismatchError: it belongs to another store, region or kind of reader.
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
        return int(body["position"])

    def _verified(self, data: bytes) -> dict[str, Any]:
        digest, _, text = data.removesuffix(b"\n").partition(b" ")
        if blake3(text).hexdigest().encode() != digest:
            raise CheckpointDamagedError(
                self.location, f"its {len(data)} bytes do not have the hash they begin with"
            )
        body: dict[str, Any] = json.loads(text)
        if body.get("format") != FORMAT:
            raise CheckpointDamagedError(
                self.location, f"its format is {body.get('format')}, this version reads {FORMAT}"
            )
        return body

    def save(self, position: int) -> None:
        """Replace the position; on disk when this returns.

        Raises:
            CheckpointError: it cannot be written; the old position stays.
        """
        body = {"format": FORMAT, **self._identity, "position": position}
        text = json.dumps(body, sort_keys=True).encode()
        line = blake3(text).hexdigest().encode() + b" " + text + b"\n"
        try:
            _replace(self._path, line)
        except OSError as error:
            raise CheckpointError(self.location, f"cannot be written: {error}") from error


def _described(identity: dict[str, Any]) -> str:
    return f"{identity['reader']} of store {identity['store']}"


def _replace(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

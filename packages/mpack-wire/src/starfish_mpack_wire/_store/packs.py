"""The folder of packs, each one file under its id, and the packs that are open."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from starfish_disk.durable import sync_file, sync_folder
from starfish_mpack_wire._model.object_ids import is_object_id
from starfish_mpack_wire._pack.reader import MPackReader
from starfish_mpack_wire._store.refusals import refuse_as_store_error
from starfish_mpack_wire.errors import ObjectNotFoundError, StoreError
from starfish_mpack_wire.limits import Limits

__all__ = ("PackFolder",)

SUFFIX = ".mpack"
ID_PREFIX = "sha256:"
MOST_OPEN = 128
"""Packs that are kept open; each is a mapped file."""


class PackFolder:
    """Packs by id; safe to use from several threads.

    Args:
        folder: where the files are.
        limits: how large a pack may be.
    """

    def __init__(self, folder: Path, *, limits: Limits) -> None:
        self.folder = folder
        """Where the files are."""
        self._limits = limits
        self._lock = threading.Lock()
        self._open: OrderedDict[str, MPackReader] = OrderedDict()

    def path_of(self, mpack_id: str) -> Path:
        """The file of a pack."""
        return self.folder / (mpack_id[len(ID_PREFIX) :] + SUFFIX)

    def ids(self) -> set[str]:
        """The packs that are there."""
        with refuse_as_store_error("cannot read", self.folder):
            names = [path.name for path in self.folder.iterdir()]
        ids = {ID_PREFIX + name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)}
        return {mpack_id for mpack_id in ids if is_object_id(mpack_id)}

    def open(self, mpack_id: str) -> MPackReader:
        """A pack, ready to read; it stays readable when its file is removed meanwhile.

        Raises:
            ObjectNotFoundError: there is no such file.
            StoreError: the file is not a pack any more.
        """
        with self._lock:
            found = self._open.get(mpack_id)
            if found is not None:
                self._open.move_to_end(mpack_id)
                return found
        path = self.path_of(mpack_id)
        try:
            pack = MPackReader(path, limits=self._limits)
        except FileNotFoundError:
            raise ObjectNotFoundError(mpack_id) from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        with self._lock:
            pack = self._open.setdefault(mpack_id, pack)
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        return pack

    def install(self, source: Path, mpack_id: str) -> bool:
        """Move a finished file into the folder; it survives a power cut when this returns.

        Returns:
            Whether it was not there before.

        Raises:
            StoreError: the file system refused; nothing changed.
        """
        target = self.path_of(mpack_id)
        with refuse_as_store_error("cannot write", target):
            if target.exists():
                return False
            sync_file(source)
            source.replace(target)
            sync_folder(self.folder)
        return True

    def remove(self, mpack_ids: set[str]) -> None:
        """Remove packs; readers that have them open go on reading."""
        with refuse_as_store_error("cannot remove packs in", self.folder):
            for mpack_id in mpack_ids:
                self.path_of(mpack_id).unlink(missing_ok=True)
            sync_folder(self.folder)
        with self._lock:
            for mpack_id in mpack_ids:
                self._open.pop(mpack_id, None)

    def close(self) -> None:
        """Forget all open packs."""
        with self._lock:
            self._open.clear()

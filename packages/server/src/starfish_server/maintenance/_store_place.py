"""Where a store is within a data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from starfish_server.maintenance._errors import MissingError, TakenError
from starfish_server.storage.base import AbstractObjectStore
from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore

__all__ = ("StoreKind", "StorePlace", "require_new_file")

StoreKind = Literal["sqlite", "filesystem"]


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A store of one kind in a data folder."""

    kind: StoreKind
    data: Path

    @property
    def path(self) -> Path:
        """The database file, or the folder of documents."""
        return self.data / ("documents.sqlite" if self.kind == "sqlite" else "documents")

    def open(self) -> AbstractObjectStore:
        """The store; made with the first call when it is not there."""
        if self.kind == "filesystem":
            return FilesystemObjectStore(self.path)
        return SqliteObjectStore(self.path)

    def require(self) -> None:
        """Refuse to work on a store that is not there.

        Raises:
            MissingError: there is nothing.
        """
        if not self.path.exists():
            raise MissingError(f"{self.path}: there is not a store here")

    def require_absent(self) -> None:
        """Refuse to write over a store, or beside the leftover log of one.

        Raises:
            TakenError: there is something.
        """
        for path in self.path, self.path.with_name(f"{self.path.name}-wal"):
            is_empty_folder = path.is_dir() and not any(path.iterdir())
            if path.exists() and not is_empty_folder:
                raise TakenError(f"{path} exists; the store must be a new one")


def require_new_file(target: Path) -> None:
    """Refuse a file that is there, and one in a folder that is not.

    Raises:
        TakenError: the file exists.
        MissingError: its folder does not.
    """
    if target.exists():
        raise TakenError(f"{target} exists; it must be a new file")
    if not target.parent.is_dir():
        raise MissingError(f"{target.parent}: there is not a folder here")

"""The content of a file of either kind; the file stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from starfish_outbox._cache.file_cache import FileCache
from starfish_outbox._queue.entry import OutboxEntry
from starfish_outbox._queue.entry_json import NotAnEntryError, parse_queue
from starfish_outbox._sqlite.salvage import read_all_queues
from starfish_outbox.errors import OutboxError, OutboxPersistenceError

SQLITE_MAGIC = b"SQLite format 3\x00"


class NotThereError(OutboxError):
    """A file, a queue or an entry is not there."""


class ThereAlreadyError(OutboxError):
    """A file that is to be made is there."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """The queues of a file."""

    queues: dict[str, list[OutboxEntry]]
    unreadable: Sequence[str] = ()
    """Values that are not entries."""
    damage: Sequence[str] = field(default=())
    """Parts of the file that cannot be read."""

    def select(self, key: str | None) -> FileContent:
        """One queue, or all.

        Raises:
            NotThereError: there is no such queue.
        """
        if key is None:
            return self
        if key not in self.queues:
            keys = ", ".join(self.queues) or "none"
            raise NotThereError(f"there is no queue {key!r}; there are: {keys}")
        return FileContent({key: self.queues[key]}, self.unreadable, self.damage)


def read(path: Path) -> FileContent:
    """The content of a file.

    Raises:
        NotThereError: there is no such file.
        OutboxPersistenceError: it cannot be read, or is not an outbox.
    """
    if is_sqlite(path):
        salvage = read_all_queues(path)
        return FileContent(salvage.queues, salvage.unreadable, salvage.damage)
    try:
        key = FileCache.key_of(path)
        if FileCache(path.parent).path_of(key) != path:
            raise NotAnEntryError(f"a FileCache would not name a file {path.name!r}")
        stored, refused = parse_queue(path.read_text("utf-8"))
    except OSError as error:
        raise OutboxPersistenceError(str(path), error.strerror or repr(error)) from error
    except ValueError as error:
        raise OutboxPersistenceError(str(path), f"not an outbox: {error}") from error
    return FileContent({key: [s.entry for s in stored]}, [reason for _, reason in refused])


def is_sqlite(path: Path) -> bool:
    """Whether a file begins as a SQLite database does.

    Raises:
        NotThereError: there is no such file.
        OutboxPersistenceError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except FileNotFoundError as error:
        raise NotThereError(f"{path}: there is no such file") from error
    except OSError as error:
        raise OutboxPersistenceError(str(path), error.strerror or repr(error)) from error

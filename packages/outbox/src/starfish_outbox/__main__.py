"""``python -m starfish_outbox inspect | retry | export FILE``.

FILE is a `SqliteOutbox` or the value file of a `FileCache`. ``inspect`` and ``export`` never change
it. Exit status: 0 done, 1 the file could not be used or nothing matched, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starfish_outbox._cache_backend import parse_queue
from starfish_outbox._entry import STATUSES, NotAnEntryError, OutboxEntry, entry_json
from starfish_outbox._file_cache import FileCache
from starfish_outbox._json_item import encode_item
from starfish_outbox._queue import OutboxQueue
from starfish_outbox._sqlite_outbox import SqliteOutbox
from starfish_outbox._sqlite_read import read_all_queues
from starfish_outbox.errors import OutboxError, OutboxPersistenceError

SQLITE_MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True, slots=True)
class FileContent:
    """What a file holds."""

    queues: dict[str, list[OutboxEntry]]
    unreadable: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    options = _parser().parse_args(arguments)
    path = Path(options.file)
    try:
        return int(options.run(path, options))
    except (OutboxError, ValueError) as error:
        print(f"starfish_outbox: {error}", file=sys.stderr)
        return 1


def inspect(path: Path, options: argparse.Namespace) -> int:
    """Show how many entries each queue has, and which."""
    content = _select(read(path), options.key)
    if options.json:
        shown = {
            "queues": {key: [_summary(e) for e in es] for key, es in content.queues.items()},
            "unreadable": content.unreadable,
        }
        print(json.dumps(shown, indent=2))
        return 0
    for key, entries in content.queues.items():
        counts = {status: sum(e.status == status for e in entries) for status in sorted(STATUSES)}
        print(f"{key}: " + ", ".join(f"{n} {status}" for status, n in counts.items()))
        for entry in entries:
            print(
                f"  {entry.status:8} {entry.attempts:3} attempts  {entry.enqueued_at}  {entry.id}"
            )
    for reason in content.unreadable:
        print(f"unreadable: {reason}")
    return 0


def export(path: Path, options: argparse.Namespace) -> int:
    """Write one queue as the JSON array that every implementation reads."""
    content = _select(read(path), options.key)
    if len(content.queues) != 1:
        keys = ", ".join(content.queues) or "none"
        raise OutboxPersistenceError(str(path), f"name one queue with --key; there are: {keys}")
    (entries,) = content.queues.values()
    print("[" + ",\n".join(entry_json(e, encode_item(e.item)[0]) for e in entries) + "]")
    return 0


def retry(path: Path, options: argparse.Namespace) -> int:
    """Queue failed entries again."""
    content = _select(read(path), options.key)
    chosen = [
        (key, entry.id)
        for key, entries in content.queues.items()
        for entry in entries
        if entry.status == "failed" and options.id in (None, entry.id)
    ]
    if chosen:
        storage = SqliteOutbox(path) if _is_sqlite(path) else FileCache(path.parent)
        asyncio.run(_retry(storage, chosen))
    if options.json:
        print(json.dumps({"retried": [{"key": key, "id": entry_id} for key, entry_id in chosen]}))
    else:
        print(f"{len(chosen)} queued again")
    return 0 if chosen else 1


def read(path: Path) -> FileContent:
    """The content of a file, which stays as it is.

    Raises:
        OutboxPersistenceError: it is not there, or not an outbox.
    """
    if _is_sqlite(path):
        return FileContent(*read_all_queues(path))
    try:
        key = FileCache.key_of(path)
        if FileCache(path.parent).path_of(key) != path:
            raise NotAnEntryError(f"a FileCache would not name a file {path.name!r}")
        entries, refused = parse_queue(path.read_text("utf-8"))
    except OSError as error:
        raise OutboxPersistenceError(str(path), error.strerror or repr(error)) from error
    except ValueError as error:
        raise OutboxPersistenceError(str(path), f"not an outbox: {error}") from error
    return FileContent({key: [entry for entry, _ in entries]}, [reason for _, reason in refused])


async def _retry(storage: SqliteOutbox | FileCache, chosen: list[tuple[str, str]]) -> None:
    try:
        queue = OutboxQueue(storage)
        for key, entry_id in chosen:
            if queue.key != key:
                await queue.hydrate(key)
            await queue.retry(entry_id)
    finally:
        if isinstance(storage, SqliteOutbox):
            await storage.close()


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    except OSError as error:
        raise OutboxPersistenceError(str(path), error.strerror or repr(error)) from error


def _select(content: FileContent, key: str | None) -> FileContent:
    if key is None:
        return content
    if key not in content.queues:
        keys = ", ".join(content.queues) or "none"
        raise ValueError(f"there is no queue {key!r}; there are: {keys}")
    return FileContent({key: content.queues[key]}, content.unreadable)


def _summary(entry: OutboxEntry) -> dict[str, object]:
    return {
        "id": entry.id,
        "status": entry.status,
        "attempts": entry.attempts,
        "enqueuedAt": entry.enqueued_at,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m starfish_outbox", description="Look into an outbox."
    )
    commands = parser.add_subparsers(required=True)
    for name, run, help_text in (
        ("inspect", inspect, "show the entries, not what they hold; the file is not changed"),
        ("retry", retry, "queue failed entries again; stop the application of a value file first"),
        ("export", export, "write a queue as a JSON array; the file is not changed"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("file", metavar="FILE", help="a SQLite outbox or a FileCache's file")
        command.add_argument("--key", help="only this queue")
        command.add_argument("--json", action="store_true", help="for programs")
        command.set_defaults(run=run)
        if name == "retry":
            command.add_argument("--id", help="only this entry")
    return parser


if __name__ == "__main__":
    sys.exit(main())

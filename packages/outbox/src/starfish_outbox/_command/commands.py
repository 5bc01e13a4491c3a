# ruff: noqa: T201 - a command prints
"""What each command does; its result is the exit status."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from starfish_disk.errors import DiskError
from starfish_disk.sqlite_errors import sqlite_errors_translated
from starfish_outbox._cache.file_cache import FileCache
from starfish_outbox._command.content import NotThereError, ThereAlreadyError, is_sqlite, read
from starfish_outbox._outbox_queue import OutboxQueue
from starfish_outbox._queue.entry import OutboxEntry
from starfish_outbox._queue.entry_json import entry_json
from starfish_outbox._queue.json_item import encode_item
from starfish_outbox._sqlite.layout import outbox_file, own_error
from starfish_outbox._sqlite.outbox import SqliteOutbox
from starfish_outbox.errors import OutboxPersistenceError

DONE, REFUSED, NOT_FOUND, CONFLICT, UNAVAILABLE, INTERRUPTED = 0, 1, 3, 4, 5, 130
"""Exit statuses, besides 2 for wrong usage."""


def inspect(path: Path, options: argparse.Namespace) -> int:
    """Show how many entries each queue has, which, and why they wait."""
    content = read(path).select(options.key)
    if options.json:
        shown = {
            "queues": {key: [_summary(e) for e in es] for key, es in content.queues.items()},
            "unreadable": list(content.unreadable),
            "damage": list(content.damage),
        }
        print(json.dumps(shown, indent=2))
        return REFUSED if content.damage else DONE
    for key, entries in content.queues.items():
        labels = [_label(entry) for entry in entries]
        counts = {name: labels.count(name) for name in ("failed", "queued", "sending", "conflict")}
        if not counts["conflict"]:
            del counts["conflict"]
        print(f"{key}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
        for entry, label in zip(entries, labels, strict=True):
            print(f"  {label:8} {entry.attempts:3} attempts  {entry.enqueued_at}  {entry.id}")
            if entry.failure is not None:
                print(f"           {entry.failure.kind}: {_one_line(entry.failure.reason)}")
    if not any(content.queues.values()):
        print(f"{path}: the outbox is empty")
    for reason in content.unreadable:
        print(f"unreadable: {_one_line(reason)}")
    return _tell_damage(content.damage)


def export(path: Path, options: argparse.Namespace) -> int:
    """Write one queue as the JSON array that every implementation reads."""
    content = read(path).select(options.key)
    if len(content.queues) != 1:
        keys = ", ".join(content.queues) or "none"
        raise OutboxPersistenceError(str(path), f"name one queue with --key; there are: {keys}")
    (entries,) = content.queues.values()
    print("[" + ",\n".join(entry_json(e, encode_item(e.item)[0]) for e in entries) + "]")
    for reason in content.unreadable:
        print(f"unreadable: {_one_line(reason)}", file=sys.stderr)
    return _tell_damage(content.damage)


def retry(path: Path, options: argparse.Namespace) -> int:
    """Queue failed entries again."""
    content = read(path).select(options.key)
    chosen = [
        (key, entry.id)
        for key, entries in content.queues.items()
        for entry in entries
        if entry.status == "failed" and options.id in (None, entry.id)
    ]
    if chosen:
        _change(path, chosen, lambda queue, entry_id: queue.retry(entry_id))
    if options.json:
        print(json.dumps({"retried": [{"key": key, "id": entry_id} for key, entry_id in chosen]}))
    else:
        print(f"{len(chosen)} queued again")
    return DONE if chosen else NOT_FOUND


def remove(path: Path, options: argparse.Namespace) -> int:
    """Forget one entry, whatever its status."""
    content = read(path).select(options.key)
    chosen = [
        (key, entry.id)
        for key, entries in content.queues.items()
        for entry in entries
        if entry.id == options.id
    ]
    if len(chosen) > 1:
        keys = ", ".join(key for key, _ in chosen)
        raise OutboxPersistenceError(
            str(path), f"name one queue with --key; {options.id!r} is in: {keys}"
        )
    if not chosen:
        raise NotThereError(f"{path}: there is no entry {options.id!r}")
    _change(path, chosen, lambda queue, entry_id: queue.remove(entry_id))
    if options.json:
        print(json.dumps({"removed": [{"key": key, "id": entry_id} for key, entry_id in chosen]}))
    else:
        print(f"{options.id} removed")
    return DONE


def recover(path: Path, options: argparse.Namespace) -> int:
    """Copy every entry that can be read into a new file."""
    target = Path(options.target)
    if target.exists():
        raise ThereAlreadyError(f"{target}: it is there already: name a new file")
    if not is_sqlite(path):
        raise OutboxPersistenceError(
            str(path), "not a SQLite file: a value file is repaired by hydrate"
        )
    content = read(path)
    count = asyncio.run(_copy(content.queues, target))
    lost = [*content.damage, *content.unreadable]
    if options.json:
        print(json.dumps({"recovered": count, "to": str(target), "lost": lost}, indent=2))
    else:
        print(f"{count} entries are in {target}")
        for reason in lost:
            print(f"lost: {_one_line(reason)}", file=sys.stderr)
    return REFUSED if lost else DONE


def vacuum(path: Path, options: argparse.Namespace) -> int:
    """Give unused space back to the file system."""
    if not is_sqlite(path):
        raise OutboxPersistenceError(
            str(path), "not a SQLite file: a value file has no unused space"
        )
    before = path.stat().st_size
    try:
        file = outbox_file(path, busy_timeout_ms=2_000)
        connection = file.connect(create=False)
        try:
            with sqlite_errors_translated(path):
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.close()
    except DiskError as error:
        raise own_error(path, error) from error
    after = path.stat().st_size
    if options.json:
        print(json.dumps({"before": before, "after": after}))
    else:
        print(f"{path}: {before} bytes before, {after} now")
    return DONE


def _change(
    path: Path,
    chosen: list[tuple[str, str]],
    change: Callable[[OutboxQueue, str], Awaitable[object]],
) -> None:
    storage = SqliteOutbox(path) if is_sqlite(path) else FileCache(path.parent)

    async def do() -> None:
        try:
            queue = OutboxQueue(storage)
            for key, entry_id in chosen:
                if queue.key != key:
                    await queue.hydrate(key)
                await change(queue, entry_id)
        finally:
            if isinstance(storage, SqliteOutbox):
                await storage.close()

    asyncio.run(do())


async def _copy(queues: dict[str, list[OutboxEntry]], target: Path) -> int:
    count = 0
    async with SqliteOutbox(target) as outbox:
        for key, entries in queues.items():
            queue = OutboxQueue(outbox)
            await queue.hydrate(key)
            for entry in entries:
                count += await queue.enqueue(entry.id, entry.item, entry.enqueued_at)
                if entry.status == "failed":
                    reason = None if entry.failure is None else entry.failure.reason
                    await queue.mark_failed(entry.id, reason=reason)
    return count


def _tell_damage(damage: Sequence[str]) -> int:
    for reason in damage:
        print(f"damaged: {_one_line(reason)}", file=sys.stderr)
    return REFUSED if damage else DONE


def _label(entry: OutboxEntry) -> str:
    is_conflict = entry.failure is not None and entry.failure.kind == "conflict"
    return "conflict" if entry.status == "failed" and is_conflict else entry.status


def _summary(entry: OutboxEntry) -> dict[str, object]:
    summary: dict[str, object] = {
        "id": entry.id,
        "status": entry.status,
        "attempts": entry.attempts,
        "enqueuedAt": entry.enqueued_at,
    }
    if entry.failure is not None:
        summary["failure"] = {
            "kind": entry.failure.kind,
            "reason": entry.failure.reason,
            "at": entry.failure.at,
        }
    return summary


def _one_line(text: str) -> str:
    return " ".join(text.split())

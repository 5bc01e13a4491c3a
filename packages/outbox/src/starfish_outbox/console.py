"""An outbox file in the console of a service: opened, read, and shown with the reason why each entry waits.

Needs the extra ``console``. The file is the one that a person drops on the page; it is read in a
folder of its own and left nowhere.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from starfish_outbox._command.content import FileContent, read
from starfish_outbox._queue.entry import OutboxEntry
from starfish_outbox.errors import OutboxError

try:
    from starfish_http.components import (
        Component,
        Facts,
        MaySee,
        Page,
        PageRequest,
        Section,
        Table,
        Text,
        check_sight,
    )
    from starfish_http.errors import RequestRefusedError
except ModuleNotFoundError as error:  # pragma: no cover - the extra is installed in tests
    if error.name != "starfish_http":
        raise
    raise ImportError(
        "starfish_outbox.console needs the extra 'console': "
        'pip install --find-links dist "starfish-outbox[console]"'
    ) from error

__all__ = ("console_component",)

_MOST_ENTRIES = 200
_MOST_CONFLICTS = 10


def console_component(*, may_see: MaySee) -> Component:
    """A page that shows the content of an outbox file.

    Args:
        may_see: who may use it.

    Examples:
        >>> from starfish_http.components import everybody
        >>> [page.title for page in console_component(may_see=everybody).pages]
        ['Look into a file']
    """

    async def show(request: PageRequest) -> Sequence[Section]:
        check_sight(request, may_see)
        if request.file is None:
            return []
        try:
            content = await asyncio.to_thread(_content_of, request.file)
        except OutboxError as error:
            raise RequestRefusedError(
                400, "not_an_outbox", "This file is not an outbox."
            ) from error
        return _sections(content)

    return Component(
        "outbox",
        "Outbox",
        pages=[Page("file", "Look into a file", show, takes_file="an outbox file")],
    )


def _content_of(data: bytes) -> FileContent:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outbox.sqlite")
        path.write_bytes(data)
        return read(path)


def _sections(content: FileContent) -> list[Section]:
    sections: list[Section] = []
    for key, entries in content.queues.items():
        labels = [_label(entry) for entry in entries]
        counts = [(label, labels.count(label)) for label in dict.fromkeys(labels)]
        sections.append(Facts(f"Queue {key}", counts or [("entries", 0)]))
        rows = [_row(entry) for entry in entries[:_MOST_ENTRIES]]
        columns = ["entry", "state", "attempts", "since", "why it waits"]
        title = f"Entries of {key}"
        if len(entries) > _MOST_ENTRIES:
            title += f": the first {_MOST_ENTRIES} of {len(entries)}"
        sections.append(Table(title, columns, rows, empty="This queue is empty."))
        conflicts = [entry for entry in entries if _label(entry) == "conflict"]
        sections += [_conflict(entry) for entry in conflicts[:_MOST_CONFLICTS]]
    problems = [*content.damage, *content.unreadable]
    if problems:
        sections.append(Text("Damaged", "\n".join(problems)))
    return sections


def _label(entry: OutboxEntry) -> str:
    is_conflict = entry.failure is not None and entry.failure.kind == "conflict"
    return "conflict" if entry.status == "failed" and is_conflict else entry.status


def _row(entry: OutboxEntry) -> list[str | int | None]:
    since = datetime.fromtimestamp(entry.enqueued_at / 1000, UTC).isoformat(" ", "seconds")
    why = None if entry.failure is None else f"{entry.failure.kind}: {entry.failure.reason}"
    return [entry.id, _label(entry), entry.attempts, since, why]


def _conflict(entry: OutboxEntry) -> Section:
    """The fields that the edit changed: before, and as its author wants them."""
    item = _fields(entry.item)
    base, mine = _fields(item.get("base")), _fields(item.get("body"))
    rows = [
        [name, _text(base, name), _text(mine, name)]
        for name in dict.fromkeys([*base, *mine])
        if base.get(name) != mine.get(name)
    ]
    title = f"Conflict {entry.id}: {item.get('path', 'no path')}"
    return Table(title, ["field", "before the edit", "the edit"], rows)


def _fields(value: object) -> Mapping[str, Any]:
    none: Mapping[str, Any] = {}
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else none


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    return json.dumps(fields[name], ensure_ascii=False) if name in fields else None

"""An event store in the console of a service: its events, and those of one entity on a time line.

Needs the extra ``console``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starfish_watcher._model.event import Event
from starfish_watcher._store import EventStore
from starfish_watcher.errors import PayloadErasedError, WatcherError

try:
    from starfish_http.components import (
        Cell,
        Component,
        Facts,
        Link,
        MaySee,
        Page,
        PageRequest,
        Section,
        Table,
        check_sight,
    )
    from starfish_http.errors import RequestRefusedError
except ModuleNotFoundError as error:  # pragma: no cover - the extra is installed in tests
    if error.name != "starfish_http":
        raise
    raise ImportError(
        "starfish_watcher.console needs the extra console: "
        'pip install --find-links dist "starfish-watcher[console]"'
    ) from error

__all__ = ("console_component",)

_PAGE = 50
_LONGEST_PAYLOAD = 300


def console_component(store: EventStore, *, may_see: MaySee) -> Component:
    """Pages about the events of a store.

    Args:
        store: to be looked at.
        may_see: who may look at every event.
    """
    pages = _Pages(store, may_see)
    return Component(
        "events",
        "Events",
        pages=[
            Page("newest", "Newest", pages.newest),
            Page("entity", "Entity", pages.entity, is_in_menu=False),
        ],
        health=pages.health,
    )


class _Pages:
    def __init__(self, store: EventStore, may_see: MaySee) -> None:
        self._store = store
        self._may_see = may_see

    async def newest(self, request: PageRequest) -> Sequence[Section]:
        check_sight(request, self._may_see)
        last = await asyncio.to_thread(self._store.last_sequence)
        end = max(0, min(_number(request, "before", last + 1) - 1, last))
        begin = max(0, end - _PAGE)
        page = await asyncio.to_thread(self._store.read, begin, _PAGE)
        found = [event for event in page if event.sequence <= end]  # compaction leaves holes
        more = {"before": str(begin + 1)} if begin else None
        return [
            Table(
                "Events, newest first",
                ["number", "time", "entity", "event", "payload"],
                [
                    [
                        event.sequence,
                        _moment(event),
                        Link(event.entity, "entity", {"entity": event.entity}),
                        event.type_name or str(event.kind),
                        _payload(event),
                    ]
                    for event in reversed(found)
                ],
                more=None if more is None else Link("Earlier events", "newest", more),
                empty="There is no event yet.",
            )
        ]

    async def entity(self, request: PageRequest) -> Sequence[Section]:
        check_sight(request, self._may_see)
        entity = request.query.get("entity", "")
        after = _number(request, "after", 0)
        try:
            found = await asyncio.to_thread(self._store.read, after, _PAGE, entity=entity)
            generation = await asyncio.to_thread(self._store.generation, entity)
        except (WatcherError, ValueError, TypeError) as error:
            raise RequestRefusedError(400, "not_an_entity", str(error)) from error
        rows: list[list[Cell]] = [
            [
                event.clock + 1,
                _moment(event),
                event.scope,
                event.type_name or str(event.kind),
                _payload(event),
                event.event_hash.hex()[:16],
            ]
            for event in found
        ]
        more = {"entity": entity, "after": str(found[-1].sequence)} if len(found) == _PAGE else None
        return [
            Facts(entity or "Entity", [("generation", int(generation))]),
            Table(
                "Time line",
                ["generation", "time", "scope", "event", "payload", "hash"],
                rows,
                more=None if more is None else Link("Later events", "entity", more),
                empty="There are no further events of this entity.",
            ),
        ]

    async def health(self) -> Mapping[str, Any]:
        return {"ok": True, "events": await asyncio.to_thread(self._store.last_sequence)}


def _number(request: PageRequest, name: str, default: int) -> int:
    text = request.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else default


def _moment(event: Event) -> str:
    return datetime.fromtimestamp(event.timestamp_us / 1e6, UTC).isoformat(" ", "milliseconds")


def _payload(event: Event) -> str:
    try:
        text = repr(event.payload)
    except PayloadErasedError:
        return "erased"
    except WatcherError as error:
        return f"not readable: {error}"
    return text if len(text) <= _LONGEST_PAYLOAD else f"{text[:_LONGEST_PAYLOAD]}…"

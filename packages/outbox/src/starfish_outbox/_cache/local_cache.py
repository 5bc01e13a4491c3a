"""A queue in any key/value store: one JSON array under one key.

The texts of the items are kept, so that a change serialises what it changes and joins the rest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from starfish_outbox._queue.backend import Loaded, Outcome
from starfish_outbox._queue.changes import Change, Claim, Enqueue, Replace, Rest, rest_after
from starfish_outbox._queue.entry import OutboxEntry, Quarantined
from starfish_outbox._queue.entry_json import StoredEntry, entry_json, parse_queue
from starfish_outbox.errors import OutboxError, OutboxPersistenceError

T = TypeVar("T")

logger = logging.getLogger(__name__)


class LocalCache(Protocol):
    """Any async key/value store of texts."""

    async def get_item(self, key: str) -> str | None:
        """The text under a key, ``None`` when there is none."""
        ...

    async def set_item(self, key: str, value: str) -> None:
        """Set the text under a key; as durable as the store promises when this returns."""
        ...

    async def remove_item(self, key: str) -> None:
        """Remove a key; no error when it is absent."""
        ...


class CacheBackend:
    """A `QueueBackend` over a `LocalCache`."""

    def __init__(self, cache: LocalCache, now_ms: Callable[[], int]) -> None:
        self._cache = cache
        self._now_ms = now_ms

    def bind(self, key: str) -> CacheSession:
        """Access to one key; does no I/O."""
        return CacheSession(self._cache, key, self._now_ms)


class CacheSession:
    """A `QueueSession` over a `LocalCache`; the only writer of its key."""

    def __init__(self, cache: LocalCache, key: str, now_ms: Callable[[], int]) -> None:
        self._cache = cache
        self._key = key
        self._now_ms = now_ms
        self._stored: dict[str, StoredEntry] = {}
        self._fragments: dict[str, str] = {}
        self._rests: dict[str, Rest] = {}

    async def load(self) -> Loaded:
        """Read the array; a value that is not an entry is moved to ``<key>.corrupt.<ms>`` first."""
        text = await self._guard(self._cache.get_item(self._key))
        quarantined: list[Quarantined] = []
        if text is not None:
            try:
                kept, refused = parse_queue(text, self._now_ms())
            except ValueError as error:
                quarantined.append(await self._put_aside(text, str(error)))
                await self._guard(self._cache.remove_item(self._key))
            else:
                self._keep(kept)
                if refused:
                    aside = json.dumps([value for value, _ in refused])
                    reasons = "; ".join(reason for _, reason in refused)
                    quarantined.append(await self._put_aside(aside, reasons))
                    await self._write(self._fragments)
        entries = [stored.entry for stored in self._stored.values()]
        return Loaded(entries, dict(self._rests), quarantined)

    async def commit(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        """Apply the changes to a copy, write it, then believe it."""
        fragments = self._fragments.copy()
        changed: dict[str, StoredEntry | None] = {}
        rests: dict[str, Rest | None] = {}
        outcomes: list[Outcome] = []
        for change in changes:
            stored = changed[change.id] if change.id in changed else self._stored.get(change.id)
            before = None if stored is None else stored.entry
            after = self._after(change, before)
            is_changed = after is not before
            if is_changed:
                rests[change.id] = rest_after(change)
                changed[change.id] = new = _stored(change, stored, after)
                if new is None:
                    del fragments[change.id]
                else:
                    fragments[change.id] = entry_json(
                        new.entry, new.item_text, new.members, new.time_text
                    )
            rest = rests[change.id] if change.id in rests else self._rests.get(change.id)
            outcomes.append(Outcome(is_changed, after, rest))
        if changed:
            await self._write(fragments)
        self._fragments = fragments
        for entry_id, new in changed.items():
            if new is None:
                self._stored.pop(entry_id, None)
            else:
                self._stored[entry_id] = new
            rest = rests.get(entry_id)
            if new is None or rest is None:
                self._rests.pop(entry_id, None)
            else:
                self._rests[entry_id] = rest
        return outcomes

    def _after(self, change: Change, before: OutboxEntry | None) -> OutboxEntry | None:
        rest = self._rests.get(change.id)
        due_by = change.due_by if isinstance(change, Claim) else None
        if rest is not None and due_by is not None and not rest.is_over(due_by):
            return before
        return change.apply(before)

    async def refresh(self) -> None:
        """Nobody else writes this key."""

    def release(self) -> None:
        """A later load makes ``queued`` every entry that is ``sending``."""

    def _keep(self, kept: Sequence[StoredEntry]) -> None:
        for stored in kept:
            entry = stored.entry
            if entry.status == "sending":
                entry = replace(entry, status="queued")
            self._stored[entry.id] = replace(stored, entry=entry)
            self._fragments[entry.id] = entry_json(
                entry, stored.item_text, stored.members, stored.time_text
            )

    async def _write(self, fragments: dict[str, str]) -> None:
        text = "[" + ",".join(fragments.values()) + "]"
        await self._guard(self._cache.set_item(self._key, text))

    async def _put_aside(self, text: str, reason: str) -> Quarantined:
        ms = self._now_ms()
        while await self._guard(self._cache.get_item(f"{self._key}.corrupt.{ms}")) is not None:
            ms += 1
        location = f"{self._key}.corrupt.{ms}"
        await self._guard(self._cache.set_item(location, text))
        logger.warning("queue %s: unreadable content moved to %s", self._key, location)
        return Quarantined(location, reason)

    async def _guard(self, call: Awaitable[T]) -> T:
        """Let errors of the package pass and give every other one its type."""
        try:
            return await call
        except OutboxError:
            raise
        except Exception as error:
            raise OutboxPersistenceError(self._key, f"the cache failed: {error!r}") from error


def _stored(
    change: Change, before: StoredEntry | None, after: OutboxEntry | None
) -> StoredEntry | None:
    if after is None:
        return None
    if isinstance(change, Enqueue):
        return StoredEntry(after, change.item_text)
    if before is None:
        raise OutboxPersistenceError(change.id, "a change made an entry out of nothing")
    text = change.item_text if isinstance(change, Replace) else before.item_text
    return replace(before, entry=after, item_text=text)

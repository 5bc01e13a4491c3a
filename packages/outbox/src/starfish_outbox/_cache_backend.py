"""A queue in any key/value store: one JSON array under one key.

The texts of the items are kept, so that a change serialises what it changes and joins the rest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar, cast

from starfish_outbox._backend import Loaded, Outcome
from starfish_outbox._changes import Change, Enqueue, RecordFailure
from starfish_outbox._entry import (
    NotAnEntryError,
    OutboxEntry,
    Quarantined,
    entry_from_json,
    entry_json,
    reset_sending_to_queued,
)
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


class CacheSession:
    """A `QueueSession` over a `LocalCache`; the only writer of its key."""

    def __init__(self, cache: LocalCache, key: str, now_ms: Callable[[], int]) -> None:
        self._cache = cache
        self._key = key
        self._now_ms = now_ms
        self._entries: dict[str, OutboxEntry] = {}
        self._item_texts: dict[str, str] = {}
        self._fragments: dict[str, str] = {}
        self._not_before: dict[str, int] = {}

    async def load(self) -> Loaded:
        """Read the array; what is not an entry is moved to ``<key>.corrupt.<ms>`` first."""
        text = await self._guard(self._cache.get_item(self._key))
        quarantined: list[Quarantined] = []
        if text is not None:
            try:
                kept, refused = parse_queue(text)
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
        return Loaded(list(self._entries.values()), dict(self._not_before), quarantined)

    async def commit(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        """Apply the changes to a copy, write it, then believe it."""
        entries, fragments = self._entries.copy(), self._fragments.copy()
        texts: dict[str, str] = {}
        not_before: dict[str, int] = {}
        outcomes: list[Outcome] = []
        for change in changes:
            before = entries.get(change.id)
            after = change.apply(before)
            changed = after is not before
            if changed and after is None:
                del entries[change.id], fragments[change.id]
            elif changed and after is not None:
                if isinstance(change, Enqueue):
                    texts[change.id] = change.item_text
                item_text = texts.get(change.id) or self._item_texts[change.id]
                entries[change.id] = after
                fragments[change.id] = entry_json(after, item_text)
            if changed:
                not_before[change.id] = (
                    change.not_before if isinstance(change, RecordFailure) else 0
                )
            at = not_before.get(change.id, self._not_before.get(change.id, 0))
            outcomes.append(Outcome(changed, after, at))
        if any(outcome.changed for outcome in outcomes):
            await self._write(fragments)
        self._entries, self._fragments = entries, fragments
        self._item_texts.update(texts)
        self._not_before.update(not_before)
        for change in changes:
            if change.id not in entries:
                self._item_texts.pop(change.id, None)
                self._not_before.pop(change.id, None)
        return outcomes

    async def refresh(self) -> None:
        """Nobody else writes this key."""

    def release(self) -> None:
        """A later load resets what is ``sending``."""

    def _keep(self, kept: Sequence[tuple[OutboxEntry, str]]) -> None:
        entries = reset_sending_to_queued(entry for entry, _ in kept)
        for entry, (_, item_text) in zip(entries, kept, strict=True):
            self._entries[entry.id] = entry
            self._item_texts[entry.id] = item_text
            self._fragments[entry.id] = entry_json(entry, item_text)

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


def parse_queue(
    text: str,
) -> tuple[list[tuple[OutboxEntry, str]], list[tuple[object, str]]]:
    """Entries with their items' texts, and what is none with the reason.

    Raises:
        ValueError: the text is not a JSON array.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise NotAnEntryError("nested too deeply") from None
    if not isinstance(values, list):
        raise NotAnEntryError(f"not a JSON array but {type(values).__name__}")
    kept: dict[str, tuple[OutboxEntry, str]] = {}
    refused: list[tuple[object, str]] = []
    for position, value in enumerate(cast("list[object]", values)):
        try:
            entry, item_text = entry_from_json(value)
            if entry.id in kept:
                raise ValueError(f"id {entry.id[:80]!r} is there twice")  # noqa: TRY301 - one place that refuses
        except ValueError as error:
            refused.append((value, f"entry {position}: {error}"))
        else:
            kept[entry.id] = (entry, item_text)
    return list(kept.values()), refused

"""Changes that could not be folded: kept in the store until they can be, or until they are retried.

Rule: a change is parked before the position passes it, so nothing is forgotten in a crash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from starfish_projection._drops import DropReason
from starfish_projection._leadership import PendingChange
from starfish_projection._store import ListStore, TargetStore

__all__ = ("Failure", "ParkedWrite", "ParkingLot")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one projection could not take a write."""

    reason: DropReason
    target: str | None
    """The list; ``None`` when the target function gave none."""
    detail: str
    """In words."""


@dataclass(frozen=True, slots=True)
class ParkedWrite:
    """A document whose last write is not in every list that it belongs to."""

    collection: str
    key: str
    """Where the document is stored."""
    failures: tuple[Failure, ...]
    """One for each projection that could not take it."""
    change: PendingChange
    """What the change log says about the write."""


class ParkingLot:
    """The parked writes of one set of projections.

    Args:
        store: where they are kept.
        prefix: of their keys.
    """

    def __init__(self, store: ListStore, prefix: str) -> None:
        self._list = store.list_keys
        self._read_text = store.get_string
        self._delete = getattr(store, "delete", None)
        self._store = TargetStore(store)
        self._prefix = prefix

    async def all(self) -> list[ParkedWrite]:
        """Read them, in the order of their keys."""
        found: list[ParkedWrite] = []
        for key in await self._list(self._prefix):
            text = await self._read_text(key)
            parked = None if text is None else _from_text(text)
            if parked is not None:
                found.append(parked)
        return found

    async def park(self, change: PendingChange, failures: Sequence[Failure]) -> ParkedWrite:
        """Keep a write; durable, if the store is, when this returns."""
        parked = ParkedWrite(change.collection, change.key, tuple(failures), change)
        await self._put(change.key, _as_text(parked))
        return parked

    async def release(self, document_key: str) -> None:
        """Forget a write that is folded."""
        if self._delete is None:
            await self._put(document_key, "{}")
        else:
            await self._delete(self._key_of(document_key))

    async def _put(self, document_key: str, text: str) -> None:
        key = self._key_of(document_key)
        etag: str | None = None
        while etag is None:
            found = await self._store.read(key)
            etag = await self._store.write(key, text, None if found is None else found[1])

    def _key_of(self, document_key: str) -> str:
        return self._prefix + hashlib.sha256(document_key.encode()).hexdigest()[:40]


def _as_text(parked: ParkedWrite) -> str:
    return json.dumps(
        {
            "change": parked.change.as_json(),
            "failures": [
                {"reason": each.reason, "target": each.target, "detail": each.detail}
                for each in parked.failures
            ],
        }
    )


def _from_text(text: str) -> ParkedWrite | None:
    try:
        stored = cast("dict[str, Any]", json.loads(text))
        change = PendingChange.from_json(stored["change"])
        failures = tuple(
            Failure(each["reason"], each["target"], str(each["detail"]))
            for each in stored["failures"]
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return ParkedWrite(change.collection, change.key, failures, change)

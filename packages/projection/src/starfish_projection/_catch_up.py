"""Fold what nobody has folded: from the store's change log, since the position that is recorded.

Rule 1: the position moves only past changes that were folded here or cannot be folded at all.
Rule 2: folding a write twice leaves the same list, so nobody needs to know what a live fold did,
and several processes may do this at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

from starfish_projection._definition import Projection
from starfish_projection._projected_write import stored_write
from starfish_projection._store import ListStore, TargetStore
from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import WriteEvent

__all__ = ("CatchUp",)

_PAGE = 1000
_FOLDS_AT_ONCE = 64
"""Writes that are folded together: enough for lists to take many at a time."""

logger = logging.getLogger(__name__)


class _Change(Protocol):
    @property
    def sequence(self) -> int: ...
    @property
    def collection(self) -> str: ...
    @property
    def params(self) -> Mapping[str, str]: ...
    @property
    def key(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def namespace(self) -> str | None: ...
    @property
    def identity(self) -> str | None: ...


class _ChangeLog(Protocol):
    async def read(self, after: int, limit: int, /) -> Sequence[_Change]: ...
    async def last_sequence(self) -> int: ...


class CatchUp:
    """Follows the change log of a store, where it has one.

    Args:
        store: holds the documents, the log, the lists and the position.
        projections: what is followed; others have a position of their own.
        fold: takes a write to its lists; ``False`` when it should be tried again.
        every_ms: time between two looks at the log.
    """

    def __init__(
        self,
        store: ListStore,
        projections: Sequence[Projection],
        fold: Callable[[WriteEvent], Awaitable[bool]],
        *,
        every_ms: int,
    ) -> None:
        self._store = store
        self._sources = {source for projection in projections for source in projection.sources}
        self._fold = fold
        self._every_s = every_ms / 1000
        self._position = _Position(store, projections)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fold what was missed, then go on looking in the background."""
        log = cast("_ChangeLog | None", getattr(self._store, "changes", None))
        if log is not None:
            await self._run(log)
            self._task = asyncio.create_task(self._keep_looking(log))

    async def stop(self) -> None:
        """Stop looking; what was not looked at is folded by the next start."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _keep_looking(self, log: _ChangeLog) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._run(log)
            except Exception:
                logger.exception("looking for writes that were not folded failed")

    async def _run(self, log: _ChangeLog) -> None:
        at, end = await self._position.read(), await log.last_sequence()
        at = at if at <= end else 0  # the log was put back to an earlier state
        while at < end:
            changes = await log.read(at, _PAGE)
            followed = [each for each in changes if each.collection in self._sources]
            newest = list({each.key: each for each in followed}.values())
            for start in range(0, len(newest), _FOLDS_AT_ONCE):
                folds = map(self._again, newest[start : start + _FOLDS_AT_ONCE])
                if not all(await asyncio.gather(*folds)):
                    return  # from here again, the next time
            at = changes[-1].sequence if changes else end
            await self._position.move(at)

    async def _again(self, change: _Change) -> bool:
        text = await self._store.get_string(change.key)
        folder = "" if change.namespace is None else f"{change.namespace}/"
        event = WriteEvent(
            change.collection,
            change.hash,
            change.timestamp,
            change.params,
            namespace=change.namespace,
            document_key=change.key.removeprefix(folder),
        )
        write = None if text is None else stored_write(text, event)
        if write is None:
            return True
        if write.hash == change.hash:
            write = replace(write, identity=change.identity, sequence=change.sequence)
        return await self._fold(write)


class _Position:
    """How far the log was folded, kept in the store beside the lists."""

    def __init__(self, store: ListStore, projections: Sequence[Projection]) -> None:
        self._store = TargetStore(store)
        # "~" is in no document's key, so no client gets there. Projections that were not followed
        # before make another key, and so begin at the beginning.
        described = sorted(map(_description, projections))
        self._key = f"~projection/{compute_hash(described)[:32]}"

    async def read(self) -> int:
        found = await self._store.read(self._key)
        return 0 if found is None else _sequence_in(found[0])

    async def move(self, sequence: int) -> None:
        found = await self._store.read(self._key)
        if found is None or _sequence_in(found[0]) != sequence:
            # When another process was faster its position is as true as this one.
            body = json.dumps({"sequence": sequence})
            await self._store.write(self._key, body, None if found is None else found[1])


def _description(projection: Projection) -> list[str]:
    target = projection.target
    return [
        *sorted(projection.sources),
        target if isinstance(target, str) else _name(target),
        _name(projection.project),
    ]


def _name(function: object) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{getattr(named, '__qualname__', '')}"


def _sequence_in(text: str) -> int:
    """A position that cannot be read is the beginning: folding again changes nothing."""
    try:
        stored: Any = json.loads(text)
    except ValueError:
        return 0
    sequence: Any = (
        cast("dict[str, Any]", stored).get("sequence") if isinstance(stored, dict) else 0
    )
    return sequence if isinstance(sequence, int) else 0

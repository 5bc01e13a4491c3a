"""Who folds, and how far: one document in the store, changed by compare-and-swap only.

Rule 1: a process folds only while the document names it. Rule 2: whether another process is still
there is told by its document changing, so the clocks of two machines need not agree. Rule 3: a
process with nothing to do gives the document up, so an idle service writes nothing.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from starfish_projection._store import TargetStore

__all__ = ("FoldState", "Leadership", "PendingChange")


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change that the position has passed and that is not folded yet."""

    collection: str
    params: dict[str, str]
    key: str
    namespace: str | None
    sequence: int
    is_deleted: bool = False
    identity: str | None = None
    hash: str = ""
    timestamp: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "collection": self.collection,
            "params": self.params,
            "key": self.key,
            "namespace": self.namespace,
            "sequence": self.sequence,
            "deleted": self.is_deleted,
            "identity": self.identity,
            "hash": self.hash,
            "timestamp": self.timestamp,
        }

    @classmethod
    def from_json(cls, stored: Any) -> PendingChange:
        """Read what `as_json` wrote; raises whatever a wrong shape raises."""
        return cls(
            collection=str(stored["collection"]),
            params={str(name): str(value) for name, value in stored["params"].items()},
            key=str(stored["key"]),
            namespace=None if stored["namespace"] is None else str(stored["namespace"]),
            sequence=int(stored["sequence"]),
            is_deleted=bool(stored["deleted"]),
            identity=stored.get("identity"),
            hash=str(stored.get("hash", "")),
            timestamp=int(stored.get("timestamp", 0)),
        )


@dataclass(frozen=True, slots=True)
class FoldState:
    """The document."""

    owner: str | None = None
    """Which plugin folds; ``None`` for none."""
    beat: str = ""
    """Another text with each write, which is how a writer knows its own."""
    position: str | None = None
    """Everything up to there is folded, parked or pending; ``None`` for the beginning."""
    sequence: int = 0
    """The same as a number, for comparing."""
    pending: tuple[PendingChange, ...] = ()
    """Changes up to there that take long."""

    def as_text(self) -> str:
        return json.dumps(
            {
                "owner": self.owner,
                "beat": self.beat,
                "position": self.position,
                "sequence": self.sequence,
                "pending": [change.as_json() for change in self.pending],
            }
        )

    @classmethod
    def from_text(cls, text: str) -> FoldState:
        """Read a document; one that cannot be read is the beginning, as folding twice is harmless."""
        try:
            stored = cast("dict[str, Any]", json.loads(text))
            return cls(
                owner=stored["owner"],
                beat=str(stored["beat"]),
                position=stored["position"],
                sequence=int(stored["sequence"]),
                pending=tuple(PendingChange.from_json(each) for each in stored["pending"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()


class Leadership:
    """One plugin's view of the document.

    Args:
        store: where it is.
        key: of the document.
        lease_s: an owner whose document has not changed for so long is taken for gone.
    """

    def __init__(self, store: TargetStore, key: str, *, lease_s: float) -> None:
        self._store = store
        self._key = key
        self._lease_s = lease_s
        self.name = uuid.uuid4().hex
        self._etag: str | None = None
        self._unchanged_since = 0.0
        self.state = FoldState()
        """As it was read or written last."""

    @property
    def is_mine(self) -> bool:
        """Whether this plugin folds, as far as it knows."""
        return self.state.owner == self.name

    async def look(self) -> FoldState:
        """Read the document."""
        found = await self._store.read(self._key)
        etag = None if found is None else found[1]
        if etag != self._etag or self._unchanged_since == 0.0:
            self._unchanged_since = asyncio.get_running_loop().time()
        self._etag = etag
        self.state = FoldState() if found is None else FoldState.from_text(found[0])
        return self.state

    def is_free(self) -> bool:
        """Whether no other process folds."""
        if self.state.owner in (None, self.name):
            return True
        return asyncio.get_running_loop().time() - self._unchanged_since >= self._lease_s

    async def take(self) -> bool:
        """Become the one that folds; ``False`` when another one was faster."""
        return await self._swap(replace(self.state, owner=self.name))

    async def move(
        self, position: str | None, sequence: int, pending: Sequence[PendingChange]
    ) -> bool:
        """Record how far the log is folded, and that this plugin is there.

        Returns:
            ``False`` when it is no longer the one that folds.
        """
        state = FoldState(self.name, "", position, sequence, tuple(pending))
        return await self._swap(state)

    async def give_up(self) -> bool:
        """Let another process fold."""
        return await self._swap(replace(self.state, owner=None))

    async def _swap(self, state: FoldState) -> bool:
        state = replace(state, beat=uuid.uuid4().hex)
        etag = await self._store.write(self._key, state.as_text(), self._etag)
        if etag is None:
            # Another process wrote, or the answer of this write was lost on its way.
            found = await self.look()
            return found.beat == state.beat
        self._etag, self.state = etag, state
        self._unchanged_since = asyncio.get_running_loop().time()
        return True

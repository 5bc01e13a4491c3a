"""One reader of the change log for all event streams of a process.

Each change is read once and handed to the streams that follow its collection; streams of other
collections cost nothing. A stream that falls behind is ended, and resumes from its last position.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starfish_server.errors import StoreError
from starfish_server.storage.changes import Change, ChangeLog
from starfish_server.storage.values import Position

__all__ = ("ChangeTail", "Follower", "Happening")

_LOG = logging.getLogger(__name__)
_PAGE = 256
_LONGEST_WAIT_S = 5.0
_PAUSE_S = 0.02
"""Between two reads under steady writes: as many changes then share the cost of a read."""
_MOST_WAITING = 2048
"""Changes that may wait for a slow stream."""


@dataclass(frozen=True, slots=True)
class Happening:
    """A change, or a push that is not stored."""

    change: Change
    data: dict[str, Any] | None = None
    """Of a push that is not stored: nobody can pull it afterwards."""


class Follower:
    """The changes that wait for one stream."""

    __slots__ = ("_arrived", "_waiting", "failure")

    def __init__(self) -> None:
        self._waiting: deque[Happening] = deque()
        self._arrived = asyncio.Event()
        self.failure: Exception | None = None
        """Why no more changes come."""

    def give(self, happening: Happening) -> None:
        """Add a change; a stream that is too slow gets no more of them."""
        if len(self._waiting) >= _MOST_WAITING:
            self.fail(TimeoutError("the reader is too slow"))
            return
        self._waiting.append(happening)
        self._arrived.set()

    def fail(self, error: Exception) -> None:
        """Say that no more changes come."""
        self.failure = self.failure or error
        self._arrived.set()

    async def take(self, timeout: float) -> list[Happening]:
        """The changes that wait, or nothing when none came in time.

        Raises:
            Exception: the `failure`, once everything before it was taken.
        """
        if not self._waiting and self.failure is None:
            try:
                async with asyncio.timeout(timeout):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        if not self._waiting and self.failure is not None:
            raise self.failure
        self._arrived.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class ChangeTail:
    """Follows one log while somebody follows it here.

    Args:
        log: of the store that is served.
    """

    def __init__(self, log: ChangeLog) -> None:
        self.log = log
        self.position: Position = ""
        """Every change before it was given to its followers."""
        self._followers: dict[tuple[str | None, str], set[Follower]] = defaultdict(set)
        self._count = 0
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def follow(self, namespace: str | None, names: Mapping[str, Any]) -> Follower:
        """Begin to collect the changes of some collections.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        follower = Follower()
        async with self._starting:
            if self._task is None or self._task.done():
                self.position = await self.log.end()
                self._task = asyncio.create_task(self._run(), name="starfish change tail")
            for name in names:
                self._followers[namespace, name].add(follower)
            self._count += 1
        return follower

    def leave(self, follower: Follower, namespace: str | None, names: Mapping[str, Any]) -> None:
        """Stop collecting."""
        for name in names:
            followers = self._followers[namespace, name]
            followers.discard(follower)
            if not followers:
                del self._followers[namespace, name]
        self._count -= 1
        if self._count == 0 and self._task is not None:
            self._task.cancel()
            self._task = None

    def tell(self, happening: Happening) -> None:
        """Hand a change to its followers at once."""
        change = happening.change
        for follower in self._followers.get((change.namespace, change.collection), ()):
            follower.give(happening)

    async def _run(self) -> None:
        try:
            while True:
                await self.log.wait(self.position, _LONGEST_WAIT_S)
                page = await self.log.read(self.position, _PAGE)
                for change in page.changes:
                    self.tell(Happening(change))
                self.position = page.next
                if page.changes and page.is_end:
                    await asyncio.sleep(_PAUSE_S)
        except Exception as error:  # noqa: BLE001 - each stream learns of it and ends
            if not isinstance(error, StoreError):
                _LOG.exception("the change log cannot be followed")
            for followers in list(self._followers.values()):
                for follower in followers:
                    follower.fail(error)

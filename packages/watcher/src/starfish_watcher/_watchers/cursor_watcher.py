"""A projection watcher whose position outlives its process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starfish_watcher._delivery.checkpoint import Checkpoint, Position, check_history
from starfish_watcher._model.generation import Generation
from starfish_watcher._projection.definition import Change
from starfish_watcher._watchers.lookers import Lookers
from starfish_watcher._watchers.progress import is_newer
from starfish_watcher._watchers.projection_watcher import (
    AsyncProjectionWatcher,
    ProjectionWatcher,
    WakeUp,
)
from starfish_watcher.errors import CheckpointError

__all__ = ("AsyncCursorWatcher", "CursorWatcher")

S = TypeVar("S")


class CursorWatcher(ProjectionWatcher[S]):
    """Begins with the state that is there already, or with what its checkpoint has not seen.

    It cannot be pruned. A change that was not acknowledged before the process ended comes again,
    as part of the newest state.
    """

    def __init__(
        self,
        look: Callable[[], Change[S]],
        generation: Callable[[], int],
        wake_up: Callable[[], WakeUp],
        checkpoint: Checkpoint | None,
        mark: Callable[[int], bytes | None] = lambda _: None,
    ) -> None:
        self._checkpoint = checkpoint
        saved = (checkpoint.load() if checkpoint is not None else None) or Position(0)
        now = generation()
        epoch = saved.epoch
        if not saved.mark and isinstance(now, Generation):
            epoch = now.epoch  # of format 1, which knew nothing of compactions
        self._acked: int = Generation(
            saved.position, epoch=epoch, sequence=saved.sequence, mark=saved.mark
        )
        if checkpoint is not None and self._acked > int(now):
            raise CheckpointError(
                checkpoint.location,
                f"it stands at generation {self._acked}, but the entity is at {now}: "
                "the store lost events or is an older copy",
            )
        if checkpoint is not None:
            check_history(checkpoint.location, saved, mark(saved.sequence))
        super().__init__(
            look, generation, wake_up, include_initial=False, since_generation=self._acked
        )

    @property
    def acked(self) -> int:
        """The generation that was acknowledged last."""
        return self._acked

    def ack(self) -> None:
        """Acknowledge the change that was returned last; on disk when this returns.

        Raises:
            CheckpointError: it cannot be saved; the older acknowledgement holds.
        """
        seen = self.generation
        if self._checkpoint is not None and is_newer(seen, self._acked):
            position = Position(int(seen))
            if isinstance(seen, Generation):
                position = Position(int(seen), seen.epoch, seen.sequence, seen.mark)
            self._checkpoint.save(position)
        self._acked = seen


class AsyncCursorWatcher(AsyncProjectionWatcher[S]):
    """`CursorWatcher` for asyncio."""

    def __init__(self, watcher: CursorWatcher[S], lookers: Lookers) -> None:
        super().__init__(watcher, lookers)
        self._cursor_watcher = watcher

    @property
    def acked(self) -> int:
        """As `CursorWatcher.acked`."""
        return self._cursor_watcher.acked

    async def ack(self) -> None:
        """As `CursorWatcher.ack`."""
        await asyncio.to_thread(self._cursor_watcher.ack)

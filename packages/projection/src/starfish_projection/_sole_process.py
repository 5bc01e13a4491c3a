"""A store without a change log: one process at a time keeps the lists, a second one is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from starfish_projection._definition import Projection
from starfish_projection._leadership import Leadership
from starfish_projection._log_folder import state_key
from starfish_projection._store import ListStore, TargetStore
from starfish_projection.errors import SeveralProcessesError
from starfish_protocol.errors import StarfishError

__all__ = ("SoleProcess",)

_LEASE_S = 3.0
"""A process that has not shown itself for so long is taken for gone."""
_BEAT_S = 1.0
"""How often it shows itself."""

logger = logging.getLogger(__name__)


class SoleProcess:
    """Holds the place of the one process.

    Args:
        store: without a change log.
        projections: another set may be kept by another process.
    """

    def __init__(self, store: ListStore, projections: Sequence[Projection]) -> None:
        self._name = type(store).__name__
        key = f"{state_key(projections)}/process"
        self._leadership = Leadership(TargetStore(store), key, lease_s=_LEASE_S)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take the place.

        Raises:
            SeveralProcessesError: another process has it; a killed one has it for a few seconds.
        """
        logger.warning(
            "%s keeps no change log: one process at a time can keep lists on it, and what it "
            "leaves out when it is killed is put right by a rebuild only",
            self._name,
        )
        end = asyncio.get_running_loop().time() + _LEASE_S + _BEAT_S
        while True:
            await self._leadership.look()
            if self._leadership.is_free() and await self._leadership.take():
                break
            if asyncio.get_running_loop().time() >= end:
                raise SeveralProcessesError(self._name)
            await asyncio.sleep(_BEAT_S / 4)
        self._task = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """Give the place up."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            with contextlib.suppress(StarfishError):
                await self._leadership.give_up()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            try:
                if not await self._leadership.move(None, 0, ()):
                    logger.error("another process keeps the lists as well")
            except Exception:
                logger.exception("the store does not take the sign that this process is there")

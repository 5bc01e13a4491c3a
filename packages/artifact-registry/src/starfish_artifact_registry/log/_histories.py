"""Histories of packages, read from the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db._sqlite_thread import beside_loop
from starfish_artifact_registry.errors import LogDamagedError, PackageNotFoundError
from starfish_artifact_registry.log._log import read_events
from starfish_artifact_registry.model import _event_digest as digests
from starfish_artifact_registry.model._event_codec import Event
from starfish_artifact_registry.model._history import PackageHistory

__all__ = ("extend_history", "read_history")

_PAGE: Final = 200
"""Events that are read at once: their rows are made on the event loop, some 50 µs each."""
_FEW: Final = 32
"""Events that are folded at once on the event loop; more of them go to a thread."""


async def read_history(
    connection: AsyncConnection, package_id: UUID, known: PackageHistory | None = None
) -> PackageHistory:
    """The history of a package up to its newest event.

    Args:
        connection: where the log is.
        package_id: the package.
        known: an earlier state of it, which stays as it is; only later events are read.

    Raises:
        IllegalHistoryError: an event must not follow those before it.
        LogDamagedError: a payload is not as it was written.
        PackageNotFoundError: the log has no event of it.
    """
    history = PackageHistory(package_id) if known is None else known
    while True:
        page = await read_events(connection, history.last_sequence, _PAGE, package_id=package_id)
        if page and known is not None and history is known:
            history = known.copy()
        await extend_history(history, page)
        if len(page) < _PAGE:
            break
    if history.status is None:
        raise PackageNotFoundError(package_id)
    return history


async def extend_history(history: PackageHistory, events: Sequence[Event]) -> None:
    """Let further events of a package take place, without holding up the event loop.

    Raises:
        IllegalHistoryError: an event must not follow those before it.
        LogDamagedError: a payload is not as it was written.
    """
    if len(events) <= _FEW and not any(event.event_type.endswith(".finalized") for event in events):
        _apply(history, events)
    else:
        await beside_loop(lambda: _apply(history, events))


def _apply(history: PackageHistory, events: Iterable[Event]) -> None:
    for event in events:
        if digests.payload_digest(event.payload) != event.payload_digest:
            raise LogDamagedError(event.sequence, "its payload does not have its digest")
        history.apply(event)

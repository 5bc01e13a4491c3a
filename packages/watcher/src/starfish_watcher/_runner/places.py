"""Positions in a source that are bound to its history.

A source that can name its positions does (`starfish_protocol.events.PositionedSource`). For any
other the position is the event's sequence and a hash of the event, so that another event in its
place, or none, is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

import msgspec
from blake3 import blake3

from starfish_protocol.events import Event, PositionLost
from starfish_watcher._runner.records import Place

__all__ = ("place_after", "verified")

_OWN: Final = "~"
"""Begins a position that was made here."""
_Questions = Generator[Callable[[], Any], Any, Any]


def place_after(source: Any, event: Event) -> _Questions:
    """Where a reader is that has seen ``event``: a generator of calls of the source."""
    if hasattr(source, "position_at"):
        position = yield lambda: source.position_at(event.sequence)
    else:
        position = f"{_OWN}{event.sequence}-{_digest(event)}"
    return Place(event.sequence, position)


def verified(source: Any, position: str) -> _Questions:
    """Return when the source has the history that ``position`` is of.

    Raises:
        PositionLost: it does not.
    """
    if not position.startswith(_OWN):
        if not hasattr(source, "sequence_of"):
            raise PositionLost(position, "it is of a source that names its positions itself")
        yield lambda: source.sequence_of(position)
        return
    sequence, _, digest = position.removeprefix(_OWN).partition("-")
    found = yield lambda: source.read(int(sequence) - 1, 1)
    if not found or found[0].sequence != int(sequence):
        raise PositionLost(position, f"the source has no event {sequence}")
    if _digest(found[0]) != digest:
        raise PositionLost(position, f"another event stands at {sequence}")


def _digest(event: Event) -> str:
    parts = (event.sequence, event.entity, str(event.kind), event.payload)
    try:
        data = msgspec.msgpack.encode(parts, enc_hook=repr)
    except (TypeError, ValueError, OverflowError, RecursionError):
        data = msgspec.msgpack.encode(parts[:3])
    return blake3(data).digest(8).hex()

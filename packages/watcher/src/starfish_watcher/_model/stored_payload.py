"""Tell a payload that was damaged in storage from the one that was written.

Beside each payload stands its CRC-32, which costs a tenth of a hash. Only where the two do not fit,
or no CRC was stored, the event's whole hash decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import starmap
from operator import itemgetter
from typing import Any, Final
from zlib import crc32

from starfish_watcher._model.event import Event
from starfish_watcher.errors import ChainBrokenError

__all__ = ("payload_check", "verified")

payload_check: Final[Callable[[bytes], int]] = crc32
"""All that is stored beside a payload."""
_PAYLOAD: Final = 9
"""Where the payload stands in a row, in the order of the fields of `Event`; the check is last."""


def verified(
    location: str, rows: Iterable[tuple[Any, ...]], event_type: type[Event] = Event
) -> Iterator[Event]:
    """The events of ``rows``, whose last column is the check of the payload.

    Raises:
        ChainBrokenError: a payload is not the one that was written.
    """
    rows = list(rows)
    fields = [row[:-1] for row in rows]
    if list(map(crc32, map(itemgetter(_PAYLOAD), rows))) != [row[-1] for row in rows]:
        for row in rows:
            if crc32(row[_PAYLOAD]) != row[-1]:
                event = Event(*row[:-1])
                if event.computed_hash() != event.event_hash:
                    raise ChainBrokenError(
                        location, event.entity, event.sequence, "its content does not have its hash"
                    )
    return starmap(event_type, fields)

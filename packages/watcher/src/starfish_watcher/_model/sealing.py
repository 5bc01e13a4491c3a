"""Which open key ring opens a sealed payload.

A sealed payload is the id of its ring (16 bytes), the id of its key (8 bytes) and the encrypted
msgpack bytes. Rule: rings register here while they are open, so that the holder of an event can
read it, and nobody else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from starfish_watcher.errors import PayloadErasedError

__all__ = ("KEY_ID_BYTES", "RING_ID_BYTES", "SEALED", "close_ring", "open_ring", "opened")

SEALED: Final = 0x53
"""Code of the msgpack extension that a sealed payload is."""
RING_ID_BYTES: Final = 16
KEY_ID_BYTES: Final = 8
_Opener = Callable[[bytes, bytes], bytes]
"""Takes the id of a key and the encrypted bytes."""
_lock = threading.Lock()
_rings: Final[dict[bytes, list[_Opener]]] = {}


def open_ring(ring_id: bytes, opener: _Opener) -> None:
    """Let ``opener`` open what the ring has sealed, until `close_ring`."""
    with _lock:
        _rings[ring_id] = [*_rings.get(ring_id, ()), opener]


def close_ring(ring_id: bytes, opener: _Opener) -> None:
    """Undo `open_ring`."""
    with _lock:
        left = [each for each in _rings.get(ring_id, ()) if each != opener]
        if left:
            _rings[ring_id] = left
        else:
            _rings.pop(ring_id, None)


def opened(sealed: bytes) -> bytes:
    """The msgpack bytes of a sealed payload.

    Raises:
        PayloadErasedError: its key was destroyed, or its key ring is not open.
    """
    ring_id, rest = sealed[:RING_ID_BYTES], sealed[RING_ID_BYTES:]
    openers = _rings.get(ring_id)
    if not openers:
        reason = f"it is sealed by key ring {ring_id.hex()}, which is not open in this process"
        raise PayloadErasedError(reason)
    return openers[-1](rest[:KEY_ID_BYTES], rest[KEY_ID_BYTES:])

"""Canonical bytes, hashes, content addresses and contracts that the Starfish packages share.

`starfish_protocol.cbor` is used under its own name (``cbor.encode``), and
`starfish_protocol.append_author` is not imported here because it needs the extra ``signing``.
"""

from starfish_protocol.address import ContentAddress, MultiHasher
from starfish_protocol.clock import Clock, SystemClock
from starfish_protocol.errors import (
    AddressError,
    CborDecodeError,
    DigestMismatchError,
    StarfishError,
)
from starfish_protocol.hash import compute_hash, stable_stringify
from starfish_protocol.merge import deep_merge
from starfish_protocol.plugins import ServerPlugin, WriteEvent
from starfish_protocol.types import PullResult, PushSuccess

__all__ = (
    "AddressError",
    "CborDecodeError",
    "Clock",
    "ContentAddress",
    "DigestMismatchError",
    "MultiHasher",
    "PullResult",
    "PushSuccess",
    "ServerPlugin",
    "StarfishError",
    "SystemClock",
    "WriteEvent",
    "compute_hash",
    "deep_merge",
    "stable_stringify",
)

"""Errors that every Starfish package builds on.

* StarfishError
  - AddressError              a text that is not a content address
  - DigestMismatchError       expected, actual
  - CborDecodeError           bytes that are not the deterministic CBOR of one value
"""

from __future__ import annotations

from starfish_protocol._errors import AddressError, StarfishError
from starfish_protocol.address import DigestMismatchError

__all__ = ("AddressError", "CborDecodeError", "DigestMismatchError", "StarfishError")


class CborDecodeError(StarfishError, ValueError):
    """Bytes are not the deterministic CBOR encoding of exactly one value within the limits."""

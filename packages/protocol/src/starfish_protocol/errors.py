"""Errors that every Starfish package builds on.

* StarfishError
  - AddressError              a text that is not a content address
  - DigestMismatchError       expected, actual
  - CborDecodeError           bytes that are not the deterministic CBOR of one value
"""

from __future__ import annotations

from typing import Protocol

__all__ = ("Address", "AddressError", "CborDecodeError", "DigestMismatchError", "StarfishError")


class Address(Protocol):
    """The name of some bytes, as errors hold it: a `starfish_protocol.address.ContentAddress`."""

    @property
    def algorithm(self) -> str:
        """The hash function."""
        ...

    @property
    def digest(self) -> bytes:
        """Its 32 bytes."""
        ...


class StarfishError(Exception):
    """Base of every error that a Starfish package raises on purpose."""


class AddressError(StarfishError, ValueError):
    """A text is not ``<algorithm>:<64 lowercase hex digits>``, or names an unknown algorithm."""


class DigestMismatchError(StarfishError):
    """Bytes do not have the address that was promised for them."""

    def __init__(self, expected: Address, actual: Address) -> None:
        super().__init__(f"content is {actual}, expected {expected}")
        self.expected = expected
        """The `ContentAddress` that was promised."""
        self.actual = actual
        """The `ContentAddress` that the bytes have."""


class CborDecodeError(StarfishError, ValueError):
    """Bytes are not the deterministic CBOR encoding of exactly one value within the limits."""

"""The errors that stand below every other module; `starfish_protocol.errors` has the whole tree."""

from __future__ import annotations

__all__ = ("AddressError", "StarfishError")


class StarfishError(Exception):
    """Base of every error that a Starfish package raises on purpose."""


class AddressError(StarfishError, ValueError):
    """A text is not ``<algorithm>:<64 lowercase hex digits>``, or names an unknown algorithm."""

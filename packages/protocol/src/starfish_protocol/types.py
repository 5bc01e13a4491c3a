"""The answers to a pull and to a push, as a client holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ("PullKeyringProjection", "PullResult", "PushSuccess", "Timestamps")

Timestamps = dict[str, Any]
"""Times beside the fields of a document, as the public packages name them."""


@dataclass(slots=True)
class PullKeyringProjection:
    """The keyring of a document, pulled together with it."""

    data: dict[str, Any]
    """The keyring document."""
    hash: str
    """Its hash, 64 lowercase hex digits."""
    timestamp: int
    """The server's clock at the pull, milliseconds since the epoch."""


@dataclass(slots=True)
class PullResult:
    """A document as it was when the server answered.

    Examples:
        >>> PullResult(data={}, hash="", timestamp=0).hash   # never written
        ''
    """

    data: dict[str, Any]
    """The document; empty when it was never written."""
    hash: str
    """``compute_hash(data)`` as 64 lowercase hex digits; empty when it was never written."""
    timestamp: int
    """The server's clock at the pull, milliseconds since the epoch."""
    author_pubkey: str | None = None
    """Ed25519 public key of the document's author, lowercase hex."""
    author_signature: str | None = None
    """Their signature, base64."""
    keyring: PullKeyringProjection | None = None
    """The keyring beside the document, where the pull asked for it and the caller may read it."""


@dataclass(slots=True)
class PushSuccess:
    """A write that is stored."""

    hash: str
    """Hash of the stored document, 64 lowercase hex digits; the next push's ``baseHash``."""
    timestamp: int
    """Time of the write, milliseconds since the epoch."""

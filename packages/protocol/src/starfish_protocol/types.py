"""What a client gets back from a pull and from a push."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ("PullResult", "PushSuccess")


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
    """Ed25519 public key of whoever signed the document, lowercase hex."""
    author_signature: str | None = None
    """Their signature, base64."""


@dataclass(slots=True)
class PushSuccess:
    """A write that is stored."""

    hash: str
    """Hash of the stored document, 64 lowercase hex digits; the next push's ``baseHash``."""
    timestamp: int
    """Time of the write, milliseconds since the epoch."""

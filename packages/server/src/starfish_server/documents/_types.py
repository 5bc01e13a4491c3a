"""What pulls and pushes give back, and what a store keeps of a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starfish_protocol.types import PullResult, PushSuccess

__all__ = ("AuthorProof", "PullResult", "PushConflict", "PushSuccess", "StoredDocument")


@dataclass(frozen=True, slots=True)
class AuthorProof:
    """Who vouches for a document or an element, kept beside it; checked before it comes here."""

    pubkey: str
    """Ed25519 public key, 64 lowercase hex digits."""
    signature: str
    """Base64."""


@dataclass(frozen=True, slots=True)
class PushConflict:
    """A push that was made from another version than the stored one; nothing was written."""

    current_hash: str
    """Hash of the stored document, the empty string when there is none."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it is stored: JSON text with the fields ``v``, ``data``, ``ts``, ``hash``."""

    data: dict[str, Any]
    ts: int
    """Time of the write, milliseconds since the epoch."""
    hash: str
    """Hash of ``data``, computed when it was written and believed since."""
    author: AuthorProof | None = None
    """Stored as ``authorPubkey`` and ``authorSignature``."""

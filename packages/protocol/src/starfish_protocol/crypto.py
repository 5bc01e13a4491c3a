"""Keys from secrets, and the contract of an encryptor that a client puts between data and wire."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ("ENCRYPTED_KEY", "IV_BYTES", "Encryptor", "derive_key")

IV_BYTES = 12
"""Length of the initialisation vector of AES-GCM."""
ENCRYPTED_KEY = "_encrypted"
"""The one member of a document whose content is encrypted."""


@runtime_checkable
class Encryptor(Protocol):
    """Turns documents into documents that only holders of a key can read, and back."""

    def encrypt(self, data: dict[str, Any]) -> dict[str, Any]:
        """Wrap a document; the wrapper is a document too."""
        ...

    def decrypt(self, wrapper: dict[str, Any]) -> dict[str, Any]:
        """Give the document inside a wrapper."""
        ...


def derive_key(secret: str, salt: str, info: bytes) -> bytes:
    """Derive 32 bytes from a secret with HKDF-SHA256 (RFC 5869).

    Args:
        secret: the secret, as text.
        salt: may be public and may be empty.
        info: for which purpose; keys for two purposes have nothing in common.

    Examples:
        >>> derive_key("s", "salt", b"info").hex()[:16]
        'b64734f5f14fb40b'
    """
    return HKDF(SHA256(), length=32, salt=salt.encode(), info=info).derive(secret.encode())

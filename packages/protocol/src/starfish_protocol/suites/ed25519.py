"""Ed25519 signatures (RFC 8032) and X25519 key agreement (RFC 7748), with two separate keys.

Keys are 32 bytes as 64 hex digits. Public keys of small order and encodings that are not canonical
are refused before anything is verified: with the neutral point as a key, one signature fits every
message, and implementations disagree about the others.
"""

from __future__ import annotations

import hmac
import re
from typing import TypeGuard

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

__all__ = (
    "assert_usable_shared_secret",
    "derive_shared_secret",
    "generate_kem_keypair",
    "is_usable_public_key",
    "kem_public",
    "key_bytes",
    "public_key",
    "sign",
    "verify",
)

_KEY = re.compile("[0-9A-Fa-f]{64}")
_FIELD = 2**255 - 19
# The y coordinates of the eight points whose order divides 8, whatever the sign of x.
_SMALL_ORDER = frozenset(
    {
        0,
        1,
        _FIELD - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7,
    }
)


def sign(message: bytes, priv_hex: str) -> bytes:
    """Sign a message; the 64 bytes are the same each time.

    Args:
        message: any bytes.
        priv_hex: the private key (RFC 8032 seed), 64 hex digits.

    Raises:
        ValueError: the key is malformed; it is never shown.

    Examples:
        >>> seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
        >>> sign(b"", seed).hex()[:16]
        'e5564300c360ac72'
    """
    return Ed25519PrivateKey.from_private_bytes(key_bytes(priv_hex, "private key")).sign(message)


def public_key(priv_hex: str) -> str:
    """Give the Ed25519 public key of a private one, 64 lowercase hex digits.

    Raises:
        ValueError: the key is malformed; it is never shown.
    """
    private_key = Ed25519PrivateKey.from_private_bytes(key_bytes(priv_hex, "private key"))
    return private_key.public_key().public_bytes_raw().hex()


def verify(sig: bytes, message: bytes, pub_hex: str) -> bool:
    """Tell whether the holder of a key signed this message; never an exception.

    Args:
        sig: the signature, 64 bytes.
        message: the signed bytes.
        pub_hex: the public key, 64 hex digits.
    """
    if not is_usable_public_key(pub_hex):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(pub_hex)).verify(sig, message)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def is_usable_public_key(pub_hex: object) -> TypeGuard[str]:
    """Tell whether this is the canonical encoding of an Ed25519 key that binds its signer.

    ``False`` for anything that is not 64 hex digits, for a y coordinate of 2**255 - 19 or more, and
    for the points of small order. Whether the point lies on the curve is seen when it verifies.

    Examples:
        >>> is_usable_public_key("01" + "00" * 31)  # the neutral point
        False
    """
    if type(pub_hex) is not str or _KEY.fullmatch(pub_hex) is None:
        return False
    y = int.from_bytes(bytes.fromhex(pub_hex), "little") & (2**255 - 1)
    return y < _FIELD and y not in _SMALL_ORDER


def kem_public(priv_hex: str) -> str:
    """Give the X25519 public key of a private one, 64 lowercase hex digits.

    Raises:
        ValueError: the key is malformed; it is never shown.
    """
    private_key = X25519PrivateKey.from_private_bytes(key_bytes(priv_hex, "private key"))
    return private_key.public_key().public_bytes_raw().hex()


def generate_kem_keypair() -> tuple[str, str]:
    """Make an X25519 key pair: private and public key, 64 lowercase hex digits each.

    Examples:
        >>> private, public = generate_kem_keypair()
        >>> kem_public(private) == public
        True
    """
    priv_hex = X25519PrivateKey.generate().private_bytes_raw().hex()
    return priv_hex, kem_public(priv_hex)


def derive_shared_secret(priv_hex: str, peer_pub_hex: str) -> bytes:
    """Agree on 32 bytes with the holder of another X25519 key.

    Raises:
        ValueError: a key is malformed, or the peer's key is of small order: the secret would be
            zero, and known to everybody.
    """
    private_key = X25519PrivateKey.from_private_bytes(key_bytes(priv_hex, "private key"))
    peer = X25519PublicKey.from_public_bytes(key_bytes(peer_pub_hex, "public key"))
    try:
        secret = private_key.exchange(peer)
    except ValueError:
        secret = bytes(32)
    assert_usable_shared_secret(secret)
    return secret


def assert_usable_shared_secret(secret: bytes) -> None:
    """Return if a shared secret is not zero; every byte is looked at, whatever the first is.

    Raises:
        ValueError: it is all zeros.
    """
    if hmac.compare_digest(secret, bytes(len(secret))):
        raise ValueError("zero KEM shared secret: the peer's public key is of small order")


def key_bytes(key: object, name: str) -> bytes:
    """Read 64 hex digits.

    Raises:
        ValueError: it is anything else; the key is never shown.
    """
    if type(key) is not str or _KEY.fullmatch(key) is None:
        raise ValueError(f"a {name} must be 64 hex digits")
    return bytes.fromhex(key)

"""The signing suites of the wire. There is one: Ed25519 signatures and X25519 key agreement."""

from starfish_protocol.suites.ed25519 import (
    assert_usable_shared_secret,
    derive_shared_secret,
    generate_kem_keypair,
    kem_public,
    sign,
    verify,
)

__all__ = (
    "assert_usable_shared_secret",
    "derive_shared_secret",
    "generate_kem_keypair",
    "kem_public",
    "sign",
    "verify",
)

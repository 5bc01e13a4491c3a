"""Signed checkpoints: what somebody outside the database saw at the head of the log.

Anybody who can write the database can write another history with a chain that holds. A checkpoint kept
elsewhere says how the log stood: a log that no longer has that event at that place was rewritten or
cut. Signing and checking signatures needs the extra ``signing``; reading a checkpoint does not.

A checkpoint is deterministic CBOR, a map of these fields:

==================  =========  ===================================================================
field               type       what
==================  =========  ===================================================================
``created_at``      integer    when it was signed, milliseconds since the epoch, by the signer's clock
``event_digest``    32 bytes   digest of the event at the head, which covers every event before it
``format``          text       ``starfish-registry-checkpoint``
``public_key``      32 bytes   Ed25519 public key of the signer
``root_hash``       32 bytes   root of the Merkle tree of the first ``sequence`` events; not in
                               version 1
``sequence``        integer    sequence of the event at the head, from 1
``signature``       64 bytes   Ed25519 (RFC 8032) over the line ``starfish-registry-checkpoint-v1``
                               (``-v2`` in version 2), a newline, and the CBOR of this map without
                               ``signature``
``version``         integer    2; 1 without ``root_hash``
==================  =========  ===================================================================
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from types import ModuleType
from typing import Final, Self

from starfish_artifact_registry.errors import CheckpointError
from starfish_artifact_registry.model._closed_map import closed_map
from starfish_artifact_registry.model._moment import from_ms, to_ms
from starfish_protocol import cbor

__all__ = ("CHECKPOINT_FORMAT", "Checkpoint", "ed25519_of", "key_bytes", "sign_checkpoint")

CHECKPOINT_FORMAT: Final = "starfish-registry-checkpoint"
"""What the field ``format`` of a checkpoint says."""
_DOMAIN: Final = b"starfish-registry-checkpoint-v1\n"
_DOMAIN_2: Final = b"starfish-registry-checkpoint-v2\n"
_MAX_BYTES: Final = 1024
_FIELDS: Final = {
    "created_at": int,
    "event_digest": bytes,
    "format": str,
    "public_key": bytes,
    "sequence": int,
    "signature": bytes,
    "version": int,
}
_KEY: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a signer says of the log: this event was its head.

    Raises:
        CheckpointError: a field is not what the table of this module says.
    """

    sequence: int
    """Sequence of the event at the head."""
    event_digest: bytes
    """Its digest, 32 bytes."""
    created_at: datetime
    """When it was signed, aware UTC."""
    public_key: str
    """The signer's Ed25519 public key, 64 lowercase hex digits."""
    signature: bytes
    """The signature, 64 bytes; `verify` says whether it is good."""
    root_hash: bytes | None = None
    """Root of the Merkle tree of the first ``sequence`` events, 32 bytes; ``None`` in version 1."""

    def __post_init__(self) -> None:
        if not 1 <= self.sequence < 1 << 63:
            raise CheckpointError(f"a checkpoint names an event from 1 on, not {self.sequence}")
        for name, value, size in (
            ("event_digest", self.event_digest, 32),
            ("signature", self.signature, 64),
            ("root_hash", self.root_hash or bytes(32), 32),
        ):
            if len(value) != size:
                raise CheckpointError(f"{name} of a checkpoint is {size} bytes, not {len(value)}")
        if _KEY.fullmatch(self.public_key) is None:
            raise CheckpointError(
                f"{self.public_key!r:.80} is not 64 lowercase hex digits of a key"
            )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a checkpoint; its signature is not checked.

        Raises:
            CheckpointError: it is not exactly one checkpoint of version 1.
        """
        try:
            value = cbor.decode(data, max_depth=1, max_bytes=_MAX_BYTES)
            names = _FIELDS | ({"root_hash": bytes} if _has_root(value) else {})
            fields = closed_map(value, names, "a checkpoint")
            created_at = from_ms(fields["created_at"])
        except ValueError as error:
            raise CheckpointError(f"not a checkpoint: {error}") from error
        version = 2 if "root_hash" in fields else 1
        if (fields["format"], fields["version"]) != (CHECKPOINT_FORMAT, version):
            raise CheckpointError(
                f"{fields['format']!r:.80} version {fields['version']} is not "
                f"{CHECKPOINT_FORMAT} version 1 or 2"
            )
        return cls(
            fields["sequence"],
            fields["event_digest"],
            created_at,
            fields["public_key"].hex(),
            fields["signature"],
            fields.get("root_hash"),
        )

    def encode(self) -> bytes:
        """Give the bytes that `decode` reads; equal checkpoints give equal bytes."""
        return cbor.encode(_signed_fields(self) | {"signature": self.signature})

    def verify(self, trusted_keys: Collection[str]) -> None:
        """Return if the signature is good and its key is one of these.

        Args:
            trusted_keys: Ed25519 public keys, 64 lowercase hex digits each.

        Raises:
            CheckpointError: the signature is wrong, or by a key that is not among them.
            ImportError: the extra ``signing`` is not installed.
            ValueError: a key is malformed.
        """
        keys = {key_bytes(key, "trusted key") for key in trusted_keys}
        self.verify_signature()
        if bytes.fromhex(self.public_key) not in keys:
            raise CheckpointError(
                f"the checkpoint of event {self.sequence} is signed by {self.public_key}, "
                f"which is none of the {len(keys)} trusted keys"
            )

    def verify_signature(self) -> None:
        """Return if the holder of `public_key` signed exactly this.

        Raises:
            CheckpointError: the signature is wrong.
            ImportError: the extra ``signing`` is not installed.
        """
        ed25519 = ed25519_of()
        from cryptography.exceptions import InvalidSignature

        try:
            key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public_key))
            key.verify(self.signature, _signed_bytes(self))
        except (InvalidSignature, ValueError) as error:
            raise CheckpointError(
                f"the signature of the checkpoint of event {self.sequence} is wrong"
            ) from error


def sign_checkpoint(
    sequence: int,
    event_digest: bytes,
    *,
    created_at: datetime,
    private_key: str,
    root_hash: bytes | None = None,
) -> Checkpoint:
    """Sign what the head of a log is.

    Args:
        sequence: sequence of the event at the head.
        event_digest: its digest, 32 bytes.
        created_at: the time of signing, aware; cut to the millisecond.
        private_key: Ed25519 private key (RFC 8032 seed), 64 lowercase hex digits.
        root_hash: root of the Merkle tree up to that event; proofs can be anchored by it.

    Raises:
        CheckpointError: the sequence or the digest is none.
        ImportError: the extra ``signing`` is not installed.
        ValueError: the key is malformed, or the time has no time zone.

    Examples:
        >>> from datetime import UTC, datetime
        >>> seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
        >>> checkpoint = sign_checkpoint(
        ...     7, bytes(32), created_at=datetime(2026, 1, 1, tzinfo=UTC), private_key=seed
        ... )
        >>> checkpoint.verify([checkpoint.public_key])
        >>> Checkpoint.decode(checkpoint.encode()) == checkpoint
        True
    """
    key = ed25519_of().Ed25519PrivateKey.from_private_bytes(key_bytes(private_key, "private key"))
    unsigned = Checkpoint(
        sequence,
        event_digest,
        from_ms(to_ms(created_at)),
        key.public_key().public_bytes_raw().hex(),
        bytes(64),
        root_hash,
    )
    return replace(unsigned, signature=key.sign(_signed_bytes(unsigned)))


def _has_root(value: object) -> bool:
    return isinstance(value, dict) and "root_hash" in value


def _signed_fields(checkpoint: Checkpoint) -> dict[str, object]:
    root: dict[str, object] = {}
    if checkpoint.root_hash is not None:
        root["root_hash"] = checkpoint.root_hash
    return root | {
        "created_at": to_ms(checkpoint.created_at),
        "event_digest": checkpoint.event_digest,
        "format": CHECKPOINT_FORMAT,
        "public_key": bytes.fromhex(checkpoint.public_key),
        "sequence": checkpoint.sequence,
        "version": 1 if checkpoint.root_hash is None else 2,
    }


def _signed_bytes(checkpoint: Checkpoint) -> bytes:
    domain = _DOMAIN if checkpoint.root_hash is None else _DOMAIN_2
    return domain + cbor.encode(_signed_fields(checkpoint))


def key_bytes(key: str, what: str) -> bytes:
    """The 32 bytes of a key.

    Raises:
        ValueError: it is not 64 lowercase hex digits.
    """
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"a {what} is 64 lowercase hex digits")  # and never shown
    return bytes.fromhex(key)


def ed25519_of() -> ModuleType:
    """The module of Ed25519 keys.

    Raises:
        ImportError: the extra ``signing`` is not installed.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ImportError(
            "signatures of checkpoints need the extra signing: "
            'pip install --find-links dist "starfish-artifact-registry[signing]"'
        ) from error
    return ed25519

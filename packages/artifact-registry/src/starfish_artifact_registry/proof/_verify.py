"""Proof of a package: one file that is checked without the registry, its database or a network.

Rule 1: this module imports no database, so that it runs where only ``starfish-protocol`` is
installed. Rule 2: nothing in a proof is believed; every byte is either covered by a digest that is
computed here, or claims nothing.

A proof is deterministic CBOR, a map of these fields:

====================  ================  ===========================================================
field                 type              what
====================  ================  ===========================================================
``checkpoint``        bytes or null     a `starfish_artifact_registry.model._checkpoint` of the last event
``events``            list              the log from the package's first event to the head; an
                                        event of the package is a map, what others wrote between
                                        is a byte string of their record digests, 32 bytes each
``first_sequence``    integer           sequence of the first event of the list
``format``            text              ``starfish-registry-proof``
``head_digest``       32 bytes          event digest of the last event of the list
``manifest_digest``   text              address of the manifest, ``blake3:…``
``package_id``        text              the package, a UUID
``previous_digest``   32 bytes          event digest of the event before the first, zeros before 1
``version``           integer           1
====================  ================  ===========================================================

An event of the package is a map of ``actor`` (text), ``created_at`` (milliseconds), ``event_id``
(text, a UUID), ``event_type`` (text) and ``payload`` (bytes: deterministic CBOR, and for
``v1.package.finalized`` exactly the manifest). The digests are those of
`starfish_artifact_registry.model._event_digest`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from starfish_artifact_registry.errors import ProofError, ProofFilesError
from starfish_artifact_registry.model import _manifest as manifests
from starfish_artifact_registry.model._checkpoint import Checkpoint
from starfish_artifact_registry.model._closed_map import closed_map
from starfish_artifact_registry.model._event_digest import (
    GENESIS_DIGEST,
    event_digest,
    payload_digest,
    record_digest,
)
from starfish_artifact_registry.model._manifest import Manifest
from starfish_artifact_registry.model._moment import from_ms, to_ms
from starfish_protocol import cbor
from starfish_protocol.address import ContentAddress, MultiHasher
from starfish_protocol.errors import StarfishError

__all__ = (
    "MAX_PROOF_BYTES",
    "PROOF_FORMAT",
    "PackageProof",
    "ProvedEvent",
    "encode_proof",
    "verify_proof",
)

PROOF_FORMAT: Final = "starfish-registry-proof"
"""What the field ``format`` of a proof says."""
MAX_PROOF_BYTES: Final = 64 * 1024 * 1024
"""Size of a proof that is read unless told otherwise: about 60,000 files in a package."""

_FIRST_EVENTS: Final = ("v1.package.created", "v1.package.imported")
_FINALIZED: Final = "v1.package.finalized"
_EVENT_TYPE: Final = re.compile(r"v[0-9]{1,4}(?:\.[a-z_]{1,40}){1,4}")
_DIGEST_SIZE: Final = 32
_CHUNK: Final = 1024 * 1024
_FIELDS: Final[dict[str, type | tuple[type, ...]]] = {
    "checkpoint": (bytes, type(None)),
    "events": list,
    "first_sequence": int,
    "format": str,
    "head_digest": bytes,
    "manifest_digest": str,
    "package_id": str,
    "previous_digest": bytes,
    "version": int,
}
_EVENT_FIELDS: Final[dict[str, type | tuple[type, ...]]] = {
    "actor": str,
    "created_at": int,
    "event_id": str,
    "event_type": str,
    "payload": bytes,
}


@dataclass(frozen=True, slots=True)
class ProvedEvent:
    """One event of the package, as it stands in the log."""

    sequence: int
    """Its place in the log, from 1."""
    event_id: UUID
    """Its id."""
    event_type: str
    """What happened, such as ``v1.package.finalized``."""
    actor: str
    """Who did it, as the registry was told."""
    created_at: datetime
    """When, by the registry's clock, aware UTC."""
    payload: bytes
    """The details: deterministic CBOR."""


@dataclass(frozen=True, slots=True)
class PackageProof:
    """What a proof proves.

    With `checkpoint` it is proved that the log whose head the signer saw holds these events, at
    these places; not, that it holds no other event of the package. Without, only that the proof
    agrees with itself: compare `head_digest` with one that you know from elsewhere.
    """

    package_id: UUID
    """The package."""
    manifest: Manifest
    """What the package holds."""
    manifest_bytes: bytes
    """The same as it was finalized."""
    manifest_digest: ContentAddress
    """BLAKE3 of those bytes."""
    events: tuple[ProvedEvent, ...]
    """The package's own events, in order."""
    head_sequence: int
    """Sequence of the last event that the proof reaches."""
    head_digest: bytes
    """Its digest, which covers every event of the log before it."""
    checkpoint: Checkpoint | None
    """The checkpoint of that head, if a trusted key signed it; ``None`` if none was asked for."""
    files_checked: int | None
    """Files that were read and are those of the manifest; ``None`` when no folder was given."""


def encode_proof(
    package_id: UUID,
    *,
    manifest_digest: ContentAddress,
    first_sequence: int,
    previous_digest: bytes,
    events: Iterable[ProvedEvent | bytes],
    head_digest: bytes,
    checkpoint: Checkpoint | None = None,
) -> bytes:
    """Write a proof; `verify_proof` says whether it holds.

    Args:
        package_id: the package.
        manifest_digest: address of its manifest.
        first_sequence: sequence of its first event.
        previous_digest: event digest of the event before that one, 32 zero bytes if there is none.
        events: every event from there to the head: the package's own, or the record digest of
            somebody else's.
        head_digest: event digest of the last one.
        checkpoint: a checkpoint of the last one.
    """
    items: list[dict[str, object] | bytearray] = []
    for event in events:
        if isinstance(event, ProvedEvent):
            items.append(
                {
                    "actor": event.actor,
                    "created_at": to_ms(event.created_at),
                    "event_id": str(event.event_id),
                    "event_type": event.event_type,
                    "payload": event.payload,
                }
            )
        elif items and isinstance(items[-1], bytearray):
            items[-1] += event
        else:
            items.append(bytearray(event))
    return cbor.encode(
        {
            "checkpoint": checkpoint.encode() if checkpoint is not None else None,
            "events": [bytes(item) if isinstance(item, bytearray) else item for item in items],
            "first_sequence": first_sequence,
            "format": PROOF_FORMAT,
            "head_digest": head_digest,
            "manifest_digest": str(manifest_digest),
            "package_id": str(package_id),
            "previous_digest": previous_digest,
            "version": 1,
        }
    )


def verify_proof(
    data: bytes,
    *,
    trusted_keys: Collection[str] = (),
    files: str | os.PathLike[str] | None = None,
    max_bytes: int = MAX_PROOF_BYTES,
) -> PackageProof:
    """Check a proof and say what it proves.

    Args:
        data: the proof.
        trusted_keys: Ed25519 public keys, 64 lowercase hex digits each. With any, the proof must
            hold a checkpoint that one of them signed; with none, a checkpoint is not looked at.
        files: a folder that holds the files of the package at their relative paths; each is read
            and compared. Files that the manifest does not name are not looked at.
        max_bytes: size of a proof that is read; a hostile megabyte may take 64 in memory.

    Raises:
        ProofError: it proves nothing.
        ProofFilesError: it does, and a file in the folder is missing or has other bytes.
        OSError: a file in the folder cannot be read.
        ImportError: keys were given and the extra ``signing`` is not installed.
        ValueError: a key is malformed.
    """
    proof = _read_proof(data, max_bytes)
    first, previous = proof["first_sequence"], proof["previous_digest"]
    if first < 1 or (first == 1) != (previous == GENESIS_DIGEST):
        raise ProofError(
            f"a proof from event {first} on does not start with the digest {previous.hex():.64}"
        )
    package_id = _uuid(proof["package_id"], "package_id")
    events, head_sequence, head_digest = _walk(package_id, first, previous, proof["events"])
    if head_digest != proof["head_digest"]:
        raise ProofError(
            f"the chain of digests ends in {head_digest.hex()} at event {head_sequence}, "
            f"not in {proof['head_digest'].hex():.64}"
        )
    if not events or events[0].event_type not in _FIRST_EVENTS:
        raise ProofError(f"the events do not begin with {' or '.join(_FIRST_EVENTS)}")
    manifest_bytes = _finalized_payload(events)
    manifest_digest = ContentAddress.of(manifest_bytes)
    if str(manifest_digest) != proof["manifest_digest"]:
        raise ProofError(
            f"the log finalized the manifest {manifest_digest}, "
            f"not {proof['manifest_digest']!r:.80}"
        )
    try:
        manifest = manifests.decode(manifest_bytes)
    except StarfishError as error:
        raise ProofError(f"the log finalized bytes that are not a manifest: {error}") from error
    if manifest.package.id != package_id:
        raise ProofError(f"the manifest is of package {manifest.package.id}, not {package_id}")
    checkpoint = None
    if trusted_keys:
        checkpoint = _trusted_checkpoint(
            proof["checkpoint"], head_sequence, head_digest, trusted_keys
        )
    return PackageProof(
        package_id,
        manifest,
        manifest_bytes,
        manifest_digest,
        events,
        head_sequence,
        head_digest,
        checkpoint,
        _check_files(manifest, Path(files)) if files is not None else None,
    )


def _read_proof(data: bytes, max_bytes: int) -> dict[str, Any]:
    try:
        proof = closed_map(cbor.decode(data, max_depth=3, max_bytes=max_bytes), _FIELDS, "a proof")
    except ValueError as error:
        raise ProofError(f"not a proof: {error}") from error
    if (proof["format"], proof["version"]) != (PROOF_FORMAT, 1):
        raise ProofError(
            f"{proof['format']!r:.80} version {proof['version']} is not {PROOF_FORMAT} version 1"
        )
    for name in ("head_digest", "previous_digest"):
        if len(proof[name]) != _DIGEST_SIZE:
            raise ProofError(f"{name} of a proof is 32 bytes, not {len(proof[name])}")
    return proof


def _walk(
    package_id: UUID, sequence: int, digest: bytes, items: list[Any]
) -> tuple[tuple[ProvedEvent, ...], int, bytes]:
    """Link the events; the package's own, and sequence and digest of the last of all."""
    own: list[ProvedEvent] = []
    sequence -= 1
    after_digests = True  # the first item is an event of the package
    for place, item in enumerate(items):
        if type(item) is bytes:
            if after_digests or not item or len(item) % _DIGEST_SIZE:
                raise ProofError(
                    f"item {place} of the events is not the digests between two of the package's"
                )
            for start in range(0, len(item), _DIGEST_SIZE):
                digest = event_digest(digest, item[start : start + _DIGEST_SIZE])
            sequence += len(item) // _DIGEST_SIZE
        else:
            sequence += 1
            event = _proved_event(sequence, item)
            own.append(event)
            digest = event_digest(digest, _record_digest(package_id, event))
        after_digests = type(item) is bytes
    return tuple(own), sequence, digest


def _proved_event(sequence: int, item: object) -> ProvedEvent:
    try:
        fields = closed_map(item, _EVENT_FIELDS, "it")
        if _EVENT_TYPE.fullmatch(fields["event_type"]) is None:
            raise ProofError(f"event {sequence} has the type {fields['event_type']!r:.80}")
        return ProvedEvent(
            sequence,
            _uuid(fields["event_id"], "event_id"),
            fields["event_type"],
            fields["actor"],
            from_ms(fields["created_at"]),
            fields["payload"],
        )
    except ValueError as error:
        raise ProofError(f"event {sequence} of the proof is none: {error}") from error


def _record_digest(package_id: UUID, event: ProvedEvent) -> bytes:
    return record_digest(
        sequence=event.sequence,
        event_id=event.event_id,
        package_id=package_id,
        event_type=event.event_type,
        payload_digest=payload_digest(event.payload),
        actor=event.actor,
        created_at_ms=to_ms(event.created_at),
    )


def _finalized_payload(events: Sequence[ProvedEvent]) -> bytes:
    payloads = [event.payload for event in events if event.event_type == _FINALIZED]
    if len(payloads) != 1:
        raise ProofError(f"the package was finalized {len(payloads)} times in this log, not once")
    return payloads[0]


def _trusted_checkpoint(
    data: bytes | None, sequence: int, digest: bytes, trusted_keys: Collection[str]
) -> Checkpoint:
    if data is None:
        raise ProofError("the proof holds no checkpoint, so no trusted key speaks for it")
    try:
        checkpoint = Checkpoint.decode(data)
        checkpoint.verify(trusted_keys)
    except StarfishError as error:
        raise ProofError(f"nobody trusted speaks for this log: {error}") from error
    if (checkpoint.sequence, checkpoint.event_digest) != (sequence, digest):
        raise ProofError(
            f"the checkpoint is of event {checkpoint.sequence} with the digest "
            f"{checkpoint.event_digest.hex()}, the proof ends at event {sequence} with {digest.hex()}"
        )
    return checkpoint


def _uuid(text: str, what: str) -> UUID:
    with suppress(ValueError):
        value = UUID(text)
        if str(value) == text:
            return value
    raise ProofError(f"{what} {text!r:.80} is not a UUID in its canonical form")


def _check_files(manifest: Manifest, folder: Path) -> int:
    missing: list[str] = []
    changed: list[str] = []
    for file in manifest.files:
        try:
            # A pipe or a device in the place of a file must neither block nor be read.
            descriptor = os.open(folder / file.relative_path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            missing.append(file.relative_path)
            continue
        with open(descriptor, "rb", buffering=0) as stream:  # noqa: PTH123 - of a descriptor
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
                changed.append(file.relative_path)
                continue
            hasher = MultiHasher()
            while chunk := stream.read(_CHUNK):
                hasher.update(chunk)
        if hasher.addresses() != {"blake3": file.content_address, "sha256": file.sha256}:
            changed.append(file.relative_path)
    if missing or changed:
        raise ProofFilesError(tuple(missing), tuple(changed))
    return len(manifest.files)

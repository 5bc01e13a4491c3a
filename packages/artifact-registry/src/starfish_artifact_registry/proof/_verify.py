"""Proof of a package: one file that is checked without the registry, its database or a network.

Rule 1: this module imports no database, so that it runs where only ``starfish-protocol`` is
installed. Rule 2: nothing in a proof is believed; every byte is either covered by a digest that is
computed here, or claims nothing.

A proof is deterministic CBOR, a map of these fields:

====================  ================  ===========================================================
field                 type              what
====================  ================  ===========================================================
``checkpoint``        bytes or null     a `starfish_artifact_registry.checkpoint` of the tree
``events``            list              the events of the package, in order
``format``            text              ``starfish-registry-proof``
``hashes``            bytes             hashes of the Merkle tree, 32 bytes each, that with the
                                        leaves of the events and the last one give its root, from
                                        the left
``last_leaf``         32 bytes          hash of the last leaf of the tree, which ties its size
``manifest_digest``   text              address of the manifest, ``blake3:…``
``package_id``        text              the package, a UUID
``root_hash``         32 bytes          root of the tree (RFC 9162, SHA-256)
``tree_size``         integer           events that the tree stands for
``version``           integer           2
====================  ================  ===========================================================

An event is a map of ``actor`` (text), ``created_at`` (milliseconds), ``event_id`` (text, a UUID),
``event_type`` (text), ``payload`` (bytes: deterministic CBOR, and for ``v1.package.finalized``
exactly the manifest) and ``sequence`` (integer, from 1). Its leaf is the record whose form
`starfish_artifact_registry.model` documents: event ``n`` is the leaf with the index ``n - 1``.
The events must be a history that the rules of the registry allow, and the manifest their sum.
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
from starfish_artifact_registry.model._event_codec import EncodedPayload, decode_payload
from starfish_artifact_registry.model._event_digest import (
    payload_digest,
    record_bytes,
)
from starfish_artifact_registry.model._history import Fact, PackageHistory
from starfish_artifact_registry.model._manifest import Manifest
from starfish_artifact_registry.model._merkle import (
    HASH_SIZE,
    leaf_hash,
    root_from_inclusion,
)
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
MAX_PROOF_BYTES: Final = 192 * 1024 * 1024
"""Size of a proof that is read unless told otherwise: a package of 100,000 files has one of half that."""

_FIRST_EVENTS: Final = ("v1.package.created",)
_FINALIZED: Final = "v1.package.finalized"
_EVENT_TYPE: Final = re.compile(r"v[0-9]{1,4}(?:\.[a-z_]{1,40}){1,4}")
_CHUNK: Final = 1024 * 1024
_FIELDS: Final[dict[str, type | tuple[type, ...]]] = {
    "checkpoint": (bytes, type(None)),
    "events": list,
    "format": str,
    "hashes": bytes,
    "last_leaf": bytes,
    "manifest_digest": str,
    "package_id": str,
    "root_hash": bytes,
    "tree_size": int,
    "version": int,
}
_EVENT_FIELDS: Final[dict[str, type | tuple[type, ...]]] = {
    "actor": str,
    "created_at": int,
    "event_id": str,
    "event_type": str,
    "payload": bytes,
    "sequence": int,
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

    With `checkpoint` it is proved that the log whose tree the signer saw holds these events, at
    these places; not, that it holds no other event of the package. Without, only that the proof
    agrees with itself: compare `root_hash` with one that you know from elsewhere.
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
    """Sequence of the last event that the tree stands for."""
    root_hash: bytes
    """Root of the tree, which covers every event of the log up to there."""
    checkpoint: Checkpoint | None
    """The checkpoint of that head, if a trusted key signed it; ``None`` if none was asked for."""
    files_checked: int | None
    """Files that were read and are those of the manifest; ``None`` when no folder was given."""


def encode_proof(
    package_id: UUID,
    *,
    manifest_digest: ContentAddress,
    events: Iterable[ProvedEvent],
    tree_size: int,
    hashes: Iterable[bytes],
    last_leaf: bytes,
    root_hash: bytes,
    checkpoint: Checkpoint | None = None,
) -> bytes:
    """Write a proof; `verify_proof` says whether it holds.

    Args:
        package_id: the package.
        manifest_digest: address of its manifest.
        events: its own events up to the size of the tree.
        tree_size: events of the log that the tree stands for.
        hashes: hashes of the tree, as `inclusion_proof` gives them for these events and the
            last one of the tree.
        last_leaf: hash of the last leaf of the tree.
        root_hash: root of the tree.
        checkpoint: a checkpoint of the tree.
    """
    return cbor.encode(
        {
            "checkpoint": checkpoint.encode() if checkpoint is not None else None,
            "events": [
                {
                    "actor": event.actor,
                    "created_at": to_ms(event.created_at),
                    "event_id": str(event.event_id),
                    "event_type": event.event_type,
                    "payload": event.payload,
                    "sequence": event.sequence,
                }
                for event in events
            ],
            "format": PROOF_FORMAT,
            "hashes": b"".join(hashes),
            "last_leaf": last_leaf,
            "manifest_digest": str(manifest_digest),
            "package_id": str(package_id),
            "root_hash": root_hash,
            "tree_size": tree_size,
            "version": 2,
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
    package_id = _uuid(proof["package_id"], "package_id")
    events = tuple(_proved_event(item) for item in proof["events"])
    tree_size, root_hash = proof["tree_size"], proof["root_hash"]
    _check_tree(package_id, events, proof)
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
    if manifest.package.id != str(package_id):
        raise ProofError(f"the manifest is of package {manifest.package.id}, not {package_id}")
    _check_history(package_id, events)
    checkpoint = None
    if trusted_keys:
        checkpoint = _trusted_checkpoint(proof["checkpoint"], tree_size, root_hash, trusted_keys)
    return PackageProof(
        package_id,
        manifest,
        manifest_bytes,
        manifest_digest,
        events,
        tree_size,
        root_hash,
        checkpoint,
        _check_files(manifest, Path(files)) if files is not None else None,
    )


def _read_proof(data: bytes, max_bytes: int) -> dict[str, Any]:
    try:
        proof = closed_map(cbor.decode(data, max_depth=3, max_bytes=max_bytes), _FIELDS, "a proof")
    except ValueError as error:
        raise ProofError(f"not a proof: {error}") from error
    if (proof["format"], proof["version"]) != (PROOF_FORMAT, 2):
        raise ProofError(
            f"{proof['format']!r:.80} version {proof['version']} is not {PROOF_FORMAT} version 2"
        )
    sizes = {len(proof["root_hash"]), len(proof["last_leaf"])}
    if sizes != {HASH_SIZE} or len(proof["hashes"]) % HASH_SIZE:
        raise ProofError(f"a hash of the tree is {HASH_SIZE} bytes, and one of the proof is not")
    return proof


def _check_tree(package_id: UUID, events: Sequence[ProvedEvent], proof: dict[str, Any]) -> None:
    """Return if the events stand in the tree at their places."""
    size, hashes, root_hash = proof["tree_size"], proof["hashes"], proof["root_hash"]
    leaves = {event.sequence - 1: leaf_hash(_record(package_id, event)) for event in events}
    if len(leaves) != len(events) or list(leaves) != sorted(leaves):
        raise ProofError("the events are not in the order of the log, or one is there twice")
    if leaves.setdefault(size - 1, proof["last_leaf"]) != proof["last_leaf"]:
        raise ProofError("the last leaf of the tree is not that of its event")
    given = [hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE)]
    try:
        found = root_from_inclusion(leaves, size, given)
    except ValueError as error:
        raise ProofError(f"the events are not in a tree of {size} events: {error}") from error
    if found != root_hash:
        raise ProofError(f"the tree has the root {found.hex()}, not {root_hash.hex()}")


def _proved_event(item: object) -> ProvedEvent:
    try:
        fields = closed_map(item, _EVENT_FIELDS, "it")
        if _EVENT_TYPE.fullmatch(fields["event_type"]) is None:
            raise ProofError(f"an event has the type {fields['event_type']!r:.80}")
        return ProvedEvent(
            fields["sequence"],
            _uuid(fields["event_id"], "event_id"),
            fields["event_type"],
            fields["actor"],
            from_ms(fields["created_at"]),
            fields["payload"],
        )
    except ValueError as error:
        raise ProofError(f"an event of the proof cannot be read: {error}") from error


def _record(package_id: UUID, event: ProvedEvent) -> bytes:
    return record_bytes(
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


def _check_history(package_id: UUID, events: Sequence[ProvedEvent]) -> None:
    """Return if the events are a history that the rules allow, its manifest their sum.

    Raises:
        ProofError: they are not.
    """
    history = PackageHistory(package_id)
    try:
        for event in events:
            history.add(
                Fact(
                    event.sequence,
                    EncodedPayload(event.event_type, event.payload)
                    if event.event_type == _FINALIZED
                    else decode_payload(event.event_type, event.payload),
                    event.payload,
                    payload_digest(event.payload),
                    event.actor,
                    event.created_at,
                )
            )
        history.end()
    except (StarfishError, ValueError) as error:
        raise ProofError(f"the history contradicts itself: {error}") from error


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
    if (checkpoint.sequence, checkpoint.root_hash) != (sequence, digest):
        raise ProofError(
            f"the checkpoint is not of this tree of {sequence} events, but of event "
            f"{checkpoint.sequence}"
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

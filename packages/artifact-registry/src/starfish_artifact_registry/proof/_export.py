"""Proofs out of the log: the package's own events, and a few hashes of the tree over all others."""

from __future__ import annotations

import asyncio
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._packages import read_manifest_bytes
from starfish_artifact_registry.db.schema import events
from starfish_artifact_registry.errors import LogDamagedError, ProofError
from starfish_artifact_registry.log._hash_chain import check_digests
from starfish_artifact_registry.log._log import Head, head_at, head_of_log, read_events
from starfish_artifact_registry.log._tiles import TreeReader
from starfish_artifact_registry.model._catalogue import FileIngested, PackageFinalized
from starfish_artifact_registry.model._checkpoint import Checkpoint
from starfish_artifact_registry.model._event_codec import Event
from starfish_artifact_registry.model._merkle import inclusion_gaps, inclusion_proof
from starfish_artifact_registry.proof._verify import ProvedEvent, encode_proof, verify_proof
from starfish_protocol.address import ContentAddress

__all__ = ("export_proof",)


async def export_proof(
    connection: AsyncConnection,
    package_id: UUID,
    *,
    checkpoint: Checkpoint | None,
    page_size: int,
) -> bytes:
    """Write the proof of a package, up to a checkpoint or to the end of the log.

    Raises:
        IllegalPackageStateError: the package is not finalized.
        LogDamagedError: an event of the package, or the tree, is not as it was written.
        PackageNotFoundError: there is no such package.
        ProofError: the checkpoint is of another log, or older than the manifest.
    """
    manifest = await read_manifest_bytes(connection, package_id)
    end = await _end(connection, checkpoint)
    finalized = select(events.c.sequence).where(
        events.c.package_id == package_id,
        events.c.event_type != FileIngested.event_type,
        events.c.event_type == PackageFinalized.event_type,
    )
    if (await connection.execute(finalized)).scalar_one() > end.sequence:
        raise ProofError(f"the checkpoint of event {end.sequence} is older than the manifest")
    own = await _own_events(connection, package_id, end.sequence, page_size)
    last = end.sequence - 1
    wanted = sorted({event.sequence - 1 for event in own} | {last})
    tree = TreeReader(connection, end.sequence)
    for start, stop in inclusion_gaps(wanted, end.sequence):
        await tree.load(start, stop)
    await tree.load(last, end.sequence)
    root = await tree.root()
    if checkpoint is not None and checkpoint.root_hash not in {None, root}:
        raise ProofError(f"the checkpoint is of another log: its root is not {root.hex()}")
    data = await asyncio.to_thread(
        lambda: encode_proof(
            package_id,
            manifest_digest=ContentAddress.of(manifest),
            events=[_proved(event) for event in own],
            tree_size=end.sequence,
            hashes=inclusion_proof(wanted, end.sequence, tree.subtree),
            last_leaf=tree.subtree(last, end.sequence),
            root_hash=root,
            checkpoint=checkpoint,
        )
    )
    try:
        await asyncio.to_thread(verify_proof, data, max_bytes=len(data))
    except ProofError as error:
        raise LogDamagedError(own[0].sequence, f"its package cannot be proved: {error}") from error
    return data


async def _own_events(
    connection: AsyncConnection, package_id: UUID, end: int, page_size: int
) -> list[Event]:
    own: list[Event] = []
    while True:
        after = own[-1].sequence if own else 0
        page = await read_events(connection, after, page_size, package_id=package_id)
        for event in page:
            check_digests(event)
        own += [event for event in page if event.sequence <= end]
        if len(page) < page_size or page[-1].sequence > end:
            return own


def _proved(event: Event) -> ProvedEvent:
    return ProvedEvent(
        event.sequence,
        event.event_id,
        event.event_type,
        event.actor,
        event.created_at,
        event.payload,
    )


async def _end(connection: AsyncConnection, checkpoint: Checkpoint | None) -> Head:
    if checkpoint is None:
        return await head_of_log(connection)
    try:
        end = await head_at(connection, checkpoint.sequence)
    except LogDamagedError as error:
        raise ProofError(f"the checkpoint is of another log: {error}") from error
    if end.event_digest != checkpoint.event_digest:
        raise ProofError(
            f"the checkpoint is of another log: event {checkpoint.sequence} has the digest "
            f"{end.event_digest.hex()}, not {checkpoint.event_digest.hex()}"
        )
    return end

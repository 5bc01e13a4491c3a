"""Proofs out of the log: the package's own events, and one digest for each of the others'."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.commands._packages import read_manifest_bytes
from starfish_artifact_registry.db.schema import events
from starfish_artifact_registry.errors import LogDamagedError, ProofError
from starfish_artifact_registry.log._hash_chain import read_checked_events
from starfish_artifact_registry.log._log import Head, head_at, head_of_log
from starfish_artifact_registry.model._checkpoint import Checkpoint
from starfish_artifact_registry.model._event_digest import record_digest
from starfish_artifact_registry.model._moment import to_ms
from starfish_artifact_registry.proof._verify import ProvedEvent, encode_proof
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
        LogDamagedError: an event on the way is not as it was written.
        PackageNotFoundError: there is no such package.
        ProofError: the checkpoint is of another log, or older than the manifest.
    """
    manifest = await read_manifest_bytes(connection, package_id)
    end = await _end(connection, checkpoint)
    own = events.c.package_id == package_id
    finalized = select(events.c.sequence).where(own, events.c.event_type == "v1.package.finalized")
    if (await connection.execute(finalized)).scalar_one() > end.sequence:
        raise ProofError(f"the checkpoint of event {end.sequence} is older than the manifest")
    first: int = (
        await connection.execute(select(func.min(events.c.sequence)).where(own))
    ).scalar_one()
    before = await head_at(connection, first - 1)
    items = await _items(connection, package_id, before, end, page_size)
    return encode_proof(
        package_id,
        manifest_digest=ContentAddress.of(manifest),
        first_sequence=first,
        previous_digest=before.event_digest,
        events=items,
        head_digest=end.event_digest,
        checkpoint=checkpoint,
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


async def _items(
    connection: AsyncConnection, package_id: UUID, before: Head, end: Head, page_size: int
) -> list[ProvedEvent | bytes]:
    items: list[ProvedEvent | bytes] = []
    head = before
    while head.sequence < end.sequence:
        size = min(page_size, end.sequence - head.sequence)
        page = [event async for event in read_checked_events(connection, head, size)]
        if not page:
            raise LogDamagedError(head.sequence + 1, "it is missing")
        head = Head(page[-1].sequence, page[-1].event_digest)
        for event in page:
            if event.package_id == package_id:
                items.append(
                    ProvedEvent(
                        event.sequence,
                        event.event_id,
                        event.event_type,
                        event.actor,
                        event.created_at,
                        event.payload,
                    )
                )
            else:
                items.append(
                    record_digest(
                        sequence=event.sequence,
                        event_id=event.event_id,
                        package_id=event.package_id,
                        event_type=event.event_type,
                        payload_digest=event.payload_digest,
                        actor=event.actor,
                        created_at_ms=to_ms(event.created_at),
                    )
                )
    return items

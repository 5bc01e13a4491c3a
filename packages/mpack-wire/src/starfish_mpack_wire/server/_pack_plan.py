"""The contents of a pack for a fetch, with the places of its blobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from starfish_mpack_wire._history.delta import Delta
from starfish_mpack_wire._history.pack_plan import PackPlan, plan_chunks, plan_pack
from starfish_mpack_wire._history.reading import run_async
from starfish_mpack_wire._messages import BlobFilter
from starfish_mpack_wire._model.chunk_lists import ChunkList, length_of
from starfish_mpack_wire.server._history_rows import BlobPlace, HistoryRows
from starfish_mpack_wire.server.errors import BlobUnavailableError

__all__ = ("PlacedPlan", "place_blobs", "plan_placed_pack")


@dataclass(frozen=True, slots=True)
class PlacedPlan:
    """A plan, the place of each of its stored blobs, and the chunks of its large ones."""

    plan: PackPlan
    places: dict[str, BlobPlace] = field(default_factory=dict[str, BlobPlace])
    lists: dict[str, ChunkList] = field(default_factory=dict[str, ChunkList])


async def plan_placed_pack(
    history: HistoryRows,
    delta: Delta,
    *,
    blob_filter: BlobFilter | None = None,
    paths: Sequence[str] = (),
    max_boundary_snapshots: int,
) -> PlacedPlan:
    """Read the records that a delta needs, and the places of the blobs.

    Raises:
        BlobUnavailableError: a blob has no row in the index.
        IncompleteHistoryError: a commit or snapshot has no row.
        DamagedHistoryError: a chain of snapshots has no end.
    """
    steps = plan_pack(delta, paths=paths, max_boundary_snapshots=max_boundary_snapshots)
    plan = await run_async(steps, history)
    if blob_filter is not None:
        kept = await _small_enough(history, plan.blob_ids, blob_filter)
        plan = replace(plan, blob_ids=kept)
    if blob_filter is not None or paths:
        # Who leaves blobs out holds fewer than its commits name: no chunk is taken to be there.
        plan = replace(plan, held_blobs=frozenset())
    return await place_blobs(history, plan)


async def place_blobs(history: HistoryRows, plan: PackPlan) -> PlacedPlan:
    """Add the chunks of large blobs that the receiver lacks, and find the places of all blobs.

    Raises:
        BlobUnavailableError: a blob has no row in the index.
    """
    plan = await run_async(plan_chunks(plan), history)
    lists = await history.chunk_lists(plan.blob_ids)
    stored = set(plan.blob_ids) - lists.keys()
    places = await history.places(stored)
    for object_id in stored:
        if object_id not in places:
            raise BlobUnavailableError(object_id)
    return PlacedPlan(plan, places, lists)


async def _small_enough(
    history: HistoryRows, blob_ids: Collection[str], blob_filter: BlobFilter
) -> set[str]:
    if blob_filter.largest < 0:
        return set()
    lists = await history.chunk_lists(blob_ids)
    places = await history.places(set(blob_ids) - lists.keys())
    sizes = {each: place.size_bytes for each, place in places.items()}
    sizes |= {each: length_of(chunks) for each, chunks in lists.items()}
    for object_id in blob_ids:
        if object_id not in sizes:
            raise BlobUnavailableError(object_id)
    return {each for each, size in sizes.items() if size <= blob_filter.largest}

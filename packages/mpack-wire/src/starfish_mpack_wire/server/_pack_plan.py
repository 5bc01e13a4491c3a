"""The contents of a pack for a fetch, with the places of its blobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from starfish_mpack_wire._history.delta import Delta
from starfish_mpack_wire._history.pack_plan import PackPlan, plan_pack
from starfish_mpack_wire._history.reading import run_async
from starfish_mpack_wire._messages import BlobFilter
from starfish_mpack_wire.server._history_rows import BlobPlace, HistoryRows
from starfish_mpack_wire.server.errors import BlobUnavailableError

__all__ = ("PlacedPlan", "plan_placed_pack")


@dataclass(frozen=True, slots=True)
class PlacedPlan:
    """A plan, and the place of each of its blobs."""

    plan: PackPlan
    places: dict[str, BlobPlace] = field(default_factory=dict[str, BlobPlace])


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
    wanted = set(plan.blob_ids)
    if blob_filter is not None and blob_filter.largest < 0:
        wanted.clear()
    places = await history.places(wanted)
    for object_id in wanted:
        if object_id not in places:
            raise BlobUnavailableError(object_id)
    if blob_filter is not None:
        wanted = {each for each in wanted if places[each].size_bytes <= blob_filter.largest}
    return PlacedPlan(replace(plan, blob_ids=wanted), {each: places[each] for each in wanted})

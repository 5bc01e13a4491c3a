"""Incremental equals full, over events, kinds, versions and where the reader stopped on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_watcher import EventKind, EventStore, Projection, SnapshotCache
from starfish_watcher.testing.samples import at

KINDS = [EventKind.custom(category, 1) for category in (0x1, 0x2, 0xF)]
steps = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 99), st.booleans(), st.booleans()),
    max_size=30,
)


def projection_of(kinds: list[EventKind], version: int, lane: str) -> type[Projection[Any]]:
    class Folded(Projection[Any]):
        name = "folded"

        def initial(self) -> list[Any]:
            return [version]

        def apply(self, state: list[Any], event: Any) -> list[Any]:
            value = event.payload if lane == "typed" else int.from_bytes(event.payload)
            state.append([event.sequence, value])
            return state

    Folded.relevant_kinds = tuple(kinds)
    Folded.schema_version = version
    Folded.lane = lane  # type: ignore[assignment]
    return Folded


@given(
    steps,
    st.lists(st.sampled_from(KINDS), unique=True),
    st.integers(0, 3),
    st.sampled_from(["typed", "raw"]),
)
def test_incremental_equals_full(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[EventKind, int, bool, bool]],
    kinds: list[EventKind],
    version: int,
    lane: str,
) -> None:
    folder: Path = tmp_path_factory.mktemp("fold")
    cache = SnapshotCache(folder / "cache.db", min_events=1)
    projection = projection_of(kinds, version, lane)
    log: list[list[int]] = []
    with EventStore.memory() as plain:
        cached = EventStore(plain._log, snapshots=cache)
        for kind, payload, read, compact in steps:
            sequence = plain.append(at("a"), kind, payload).sequence
            log.append([sequence, payload, kind.code])
            if read:
                plain.project(projection, "a")
            if compact and payload % 3 == 0:
                plain.compact(lambda event: event.payload % 7 != 3)
                log = [entry for entry in log if entry[1] % 7 != 3]
            if read:
                restarted = EventStore(plain._log, snapshots=cache)
                codes = {one.code for one in kinds}
                folded = [entry[:2] for entry in log if not codes or entry[2] in codes]
                wanted = [version, *folded] if folded else None
                for store in (plain, cached, restarted):
                    assert store.project(projection, "a") == wanted
                assert plain.project(projection_of(kinds, version, lane), "a") == wanted
                restarted.close()
        cached.close()

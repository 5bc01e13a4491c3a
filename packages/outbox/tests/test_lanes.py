"""Which entries are due, in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from starfish_outbox import OutboxEntry
from starfish_outbox._lanes import plan

ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["queued", "sending", "failed"]),
        st.integers(0, 3),
        st.integers(0, 20),
    ),
    max_size=20,
)


@given(ENTRIES, st.booleans())
def test_a_plan_keeps_the_order_of_each_lane_and_starts_nothing_early(specs, with_lanes) -> None:
    entries = [OutboxEntry(str(n), spec[1], spec[0], 0, n) for n, spec in enumerate(specs)]
    not_before = {str(n): spec[2] for n, spec in enumerate(specs) if spec[2]}
    lane = (lambda entry: entry.item) if with_lanes else None
    made = plan(entries, not_before, 10, lane)

    alive = [e for e in entries if e.status != "failed"]
    lanes: dict[object, list[OutboxEntry]] = {}
    for entry in alive:
        lanes.setdefault(entry.item if with_lanes else entry.id, []).append(entry)
    ready = [
        members
        for members in lanes.values()
        if members[0].status == "queued" and not_before.get(members[0].id, 0) <= 10
    ]
    assert [list(members) for members in made.lanes] == ready
    waiting = [
        not_before[members[0].id]
        for members in lanes.values()
        if members not in ready and members[0].id in not_before
    ]
    assert made.next_due == min(waiting, default=None)

"""Which entries are due, in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from starfish_outbox import OutboxEntry, Rest
from starfish_outbox._drain.lanes import Lanes

ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["queued", "sending", "failed"]),
        st.integers(0, 3),
        st.integers(0, 20),
    ),
    max_size=20,
)


@given(ENTRIES, st.booleans(), st.integers(1, 20))
def test_a_plan_keeps_the_order_of_each_lane_and_starts_nothing_early(
    specs, with_lanes, part
) -> None:
    entries = [OutboxEntry(str(n), spec[1], spec[0], 0, n) for n, spec in enumerate(specs)]
    rests = {str(n): Rest(spec[2], 20) for n, spec in enumerate(specs) if spec[2]}
    lanes = Lanes((lambda entry: entry.item) if with_lanes else None)
    for start in range(0, len(entries), part):
        lanes.add(entries[start : start + part], rests, now_ms=10)
    made = []
    while (lane := lanes.begin()) is not None:
        made.append(list(lane.members))

    alive = [e for e in entries if e.status != "failed"]
    expected: dict[object, list[OutboxEntry]] = {}
    for entry in alive:
        expected.setdefault(entry.item if with_lanes else entry.id, []).append(entry)
    ready = [
        members
        for members in expected.values()
        if members[0].status == "queued"
        and (members[0].id not in rests or rests[members[0].id].is_over(10))
    ]
    assert made == ready
    waiting = [
        rests[members[0].id].until
        for members in expected.values()
        if members not in ready and members[0].id in rests
    ]
    assert lanes.next_due == min(waiting, default=None)


def test_a_failed_entry_holds_its_lane_back_only_where_it_is_asked_to() -> None:
    entries = [OutboxEntry("a", 1, "failed", 1, 0), OutboxEntry("b", 1, "queued", 0, 0)]
    going_on, waiting = (Lanes(lambda e: e.item, refusals_hold=hold) for hold in (False, True))
    going_on.add(entries, {}, 0)
    waiting.add(entries, {}, 0)

    assert (len(going_on), len(waiting)) == (1, 0)


def test_a_lane_that_is_held_takes_no_entries_of_a_later_part() -> None:
    lanes = Lanes(lambda e: e.item)
    lanes.add([OutboxEntry("a", 1, "queued", 0, 0)], {}, 0)
    lane = lanes.begin()
    assert lane is not None
    lanes.end(lane, is_held=True)
    lanes.add([OutboxEntry("b", 1, "queued", 0, 0), OutboxEntry("c", 2, "queued", 0, 0)], {}, 0)

    following = lanes.begin()
    assert following is not None
    assert [e.id for e in following.members] == ["c"]
    assert lanes.begin() is None

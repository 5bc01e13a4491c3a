from __future__ import annotations

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from starfish_watcher._model.event_id import EventIdSource


class Hands:
    """A clock that is put where the test wants it."""

    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> int:
        return self.ms


@given(st.lists(st.integers(-(2**48), 2**49), min_size=1, max_size=50))
def test_ids_ascend_whatever_the_clock_does(times: list[int]) -> None:
    hands = Hands()
    source = EventIdSource(hands)  # type: ignore[arg-type]
    made = []
    for hands.ms in times:
        made += [source.next(), source.next()]

    assert made == sorted(set(made))
    for raw in made:
        assert (UUID(bytes=raw).version, UUID(bytes=raw).variant) == (7, RFC_4122)


def test_an_id_carries_the_millisecond() -> None:
    hands = Hands()
    hands.ms = 1_700_000_000_123

    raw = EventIdSource(hands).next()  # type: ignore[arg-type]

    assert int.from_bytes(raw[:6]) == 1_700_000_000_123


def test_two_sources_do_not_meet_within_a_millisecond() -> None:
    hands = Hands()
    one, other = EventIdSource(hands), EventIdSource(hands)  # type: ignore[arg-type]

    assert len({source.next() for source in (one, other) for _ in range(1000)}) == 2000

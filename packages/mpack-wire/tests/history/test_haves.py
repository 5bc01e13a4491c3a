"""A short list of commits finds what both sides hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from starfish_mpack_wire._history.haves import choose_haves


@given(length=st.integers(0, 3000), tips=st.integers(0, 40), limit=st.integers(1, 300))
def test_the_list_is_bounded_and_holds_nothing_twice(length: int, tips: int, limit: int) -> None:
    history = [f"c{number}" for number in range(length, 0, -1)]

    chosen = choose_haves(history[:tips], history, limit=limit)

    assert len(chosen) == len(set(chosen)) <= limit
    assert set(chosen) <= set(history)
    if length and limit > tips:
        assert history[-1] in chosen


@given(length=st.integers(1, 200_000), own=st.integers(0, 200_000))
def test_at_most_a_sixteenth_is_downloaded_twice(length: int, own: int) -> None:
    own = min(own, length - 1)  # commits of the client that the server does not know

    chosen = choose_haves([], map(str, range(length)))

    first_common = min(int(each) for each in chosen if int(each) >= own)
    assert first_common - own <= max(1, own // 16 + 1)

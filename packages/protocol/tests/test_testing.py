from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_protocol.clock import Clock, SystemClock
from starfish_protocol.testing import ManualClock


def test_a_manual_clock_stands_still_until_it_is_moved():
    clock = ManualClock(1_000)

    assert (clock.now_ms(), clock.now_ms()) == (1_000, 1_000)
    clock.advance(500)
    assert clock.now_ms() == 1_500
    clock.advance(-1_000)
    assert clock.now_ms() == 500


@given(now_ms=st.integers(0, 4_102_444_800_000))
def test_both_forms_name_the_same_moment_exactly(now_ms):
    now = ManualClock(now_ms).now()

    assert now.tzinfo is UTC
    assert (now - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1) == now_ms


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
def test_every_clock_has_both_forms(clock: Clock):
    before = clock.now_ms()
    now = clock.now()
    after = clock.now_ms()

    assert before <= round(now.timestamp() * 1000) <= after
    assert now.utcoffset() == timedelta(0)
    assert now.microsecond % 1000 == 0

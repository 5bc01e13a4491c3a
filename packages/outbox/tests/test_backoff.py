"""Delays: bounded, repeatable, growing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_outbox import ExponentialBackoff


@given(
    st.integers(1, 10_000),
    st.integers(0, 10**7),
    st.floats(1, 100),
    st.floats(0, 1),
    st.integers(1, 10**6),
    st.integers(),
)
def test_a_delay_is_bounded_and_repeats_with_its_seed(  # noqa: PLR0917 - drawn by position
    base, more, factor, jitter, attempts, seed
):
    made = [
        ExponentialBackoff(
            base_ms=base,
            max_ms=base + more,
            factor=factor,
            jitter=jitter,
            rng=random.Random(seed),
        ).delay_ms(attempts)
        for _ in range(2)
    ]

    assert made[0] == made[1]
    assert int(base * (1 - jitter)) <= made[0] <= base + more


@pytest.mark.parametrize(
    "wrong",
    [{"base_ms": 0}, {"base_ms": 5, "max_ms": 4}, {"factor": 0.5}, {"jitter": 1.5}, {"jitter": -1}],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ExponentialBackoff(**wrong)  # type: ignore[arg-type]  # that is the point

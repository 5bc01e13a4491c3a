"""Fixtures that every test of this package shares."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

settings.register_profile("default", derandomize=True, deadline=None, max_examples=40)
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=200)
settings.register_profile("deep", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

pytest.register_assert_rewrite("starfish_watcher.testing")

REPETITIONS = int(os.environ.get("STARFISH_REPEAT", "1"))
"""How often each race is run; the promise is 200."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "repetition" in metafunc.fixturenames:
        ids = [f"repeat{number}" for number in range(REPETITIONS)]
        metafunc.parametrize("repetition", range(REPETITIONS), ids=ids)


@pytest.fixture(autouse=True)
def nothing_of_ours_blocks_the_event_loop() -> Iterator[None]:
    with blockbuster_ctx("starfish_watcher") as blocking:
        # Held for a few instructions only, by a thread that hands something over to the loop.
        blocking.functions["threading.Lock.acquire"].deactivate()
        yield

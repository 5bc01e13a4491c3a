"""What every test of the edge runs under."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

# The contract ships in the package, so pytest would not explain its asserts by itself.
pytest.register_assert_rewrite("starfish_http.testing")

_QUIET = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
settings.register_profile(
    "default", derandomize=True, deadline=None, max_examples=60, suppress_health_check=_QUIET
)
settings.register_profile("ci", deadline=None, max_examples=300, suppress_health_check=_QUIET)
settings.register_profile("deep", deadline=None, max_examples=3000, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _blocking_calls_fail() -> Iterator[None]:
    """Whatever the package does on an event loop must not block it."""
    with blockbuster_ctx("starfish_http", excluded_modules=["starfish_http.testing"]) as calls:
        # One look at a local file costs a microsecond, a thread a hundred of them.
        calls.functions["os.stat"].can_block_in("starfish_http/callers/_token_file.py", "_stamp")
        yield

"""What every test of the server runs under."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

# A contract ships in the package, so pytest would not explain its asserts by itself.
pytest.register_assert_rewrite("starfish_server.testing")

_QUIET = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
settings.register_profile(
    "default", derandomize=True, deadline=None, max_examples=50, suppress_health_check=_QUIET
)
settings.register_profile("ci", deadline=None, max_examples=200, suppress_health_check=_QUIET)
settings.register_profile("deep", deadline=None, max_examples=2000, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _blocking_calls_fail() -> Iterator[None]:
    """Whatever the package does on an event loop must not block it."""
    # A command has its event loop for itself, so that nobody waits for its files.
    excluded = [f"starfish_server.{room}" for room in ("cli", "maintenance", "testing")]
    with blockbuster_ctx("starfish_server", excluded_modules=excluded) as calls:
        # One look at the token file a request, which takes a microsecond.
        calls.functions["os.stat"].can_block_in("starfish_http/callers/_token_file.py", "_stamp")
        yield

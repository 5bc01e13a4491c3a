"""Hypothesis profiles; the contracts ship in the package, so their asserts are rewritten here."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("starfish_disk.testing")

_QUIET = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
settings.register_profile(
    "default", derandomize=True, deadline=None, max_examples=60, suppress_health_check=_QUIET
)
settings.register_profile("ci", deadline=None, max_examples=300, suppress_health_check=_QUIET)
settings.register_profile("deep", deadline=None, max_examples=3000, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

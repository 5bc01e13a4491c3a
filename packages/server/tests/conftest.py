"""What every test of the server runs under."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from servers.postgres import PostgresServer, own_postgres_server, postgres_binaries, postgres_server
from servers.s3 import s3_server

__all__ = ("own_postgres_server", "postgres_binaries", "postgres_server", "s3_server")

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
        for function in calls.functions.values():
            # asyncpg looks for a password file and a home folder whenever it connects.
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_arguments")
        yield


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of a new and empty database."""
    name = f"t_{uuid.uuid4().hex[:16]}"
    postgres_server.create_database(name)
    yield postgres_server.address(database=name)
    postgres_server.drop_database(name)

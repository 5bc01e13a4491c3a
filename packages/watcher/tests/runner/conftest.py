"""PostgreSQL for the sinks."""

from __future__ import annotations

import uuid

import pytest

from servers.postgres import postgres_binaries, postgres_server

__all__ = ("postgres_binaries", "postgres_server")


@pytest.fixture
def unique_name() -> str:
    return f"t_{uuid.uuid4().hex[:16]}"

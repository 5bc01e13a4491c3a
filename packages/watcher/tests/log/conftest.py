"""The servers under the stores, and a name that no other test uses."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from servers.nats import lazy_nats_server, nats_binary, nats_server, own_nats_server
from servers.postgres import own_postgres_server, postgres_binaries, postgres_server

__all__ = (
    "lazy_nats_server",
    "nats_binary",
    "nats_server",
    "own_nats_server",
    "own_postgres_server",
    "postgres_binaries",
    "postgres_server",
)


@pytest.fixture(autouse=True)
def killed_children_leave_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def unique_name() -> str:
    return f"t_{uuid.uuid4().hex[:16]}"

"""Two registries: packages leave the one, on SQLite, and come into the other, on either database."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_protocol.testing import ManualClock


@pytest.fixture
async def registry(
    tmp_path: Path,
    sqlite_template: bytes,
    dataplane: InProcessDataPlane,
    clock: ManualClock,
    registry_limits: Limits,
) -> AsyncGenerator[Registry]:
    """Where packages come from."""
    path = tmp_path / "here.sqlite"
    path.write_bytes(sqlite_template)
    engine = create_engine(f"sqlite:///{path}")
    limits = registry_limits
    yield Registry(engine, dataplane, RegistryViewWriter(), clock=clock, limits=limits)
    await engine.dispose()


@pytest.fixture
async def elsewhere(tmp_path: Path, database_url: str) -> AsyncGenerator[Registry]:
    """Where they go: another database, another backend and a later clock."""
    engine = create_engine(database_url)
    dataplane = InProcessDataPlane(LocalBackend(tmp_path / "elsewhere", backend_id="elsewhere"))
    clock = ManualClock(1_800_000_000_000)
    yield Registry(engine, dataplane, RegistryViewWriter(), clock=clock)
    await engine.dispose()


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: bytes) -> str:
    """For tests of what comes before the database."""
    path = tmp_path / "registry.sqlite"
    path.write_bytes(sqlite_template)
    return f"sqlite+aiosqlite:///{path}"

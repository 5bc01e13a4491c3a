"""A second registry, that packages are taken to."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_protocol.testing import ManualClock


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncGenerator[Registry]:
    """Another registry, with another database, another backend and a later clock."""
    engine = create_engine(f"sqlite:///{tmp_path / 'elsewhere.sqlite'}")
    await create_schema(engine)
    dataplane = InProcessDataPlane(LocalBackend(tmp_path / "elsewhere", backend_id="elsewhere"))
    clock = ManualClock(1_800_000_000_000)
    yield Registry(engine, dataplane, RegistryViewWriter(), clock=clock)
    await engine.dispose()

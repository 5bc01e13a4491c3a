"""`artifact-registry serve` owes its clients what every edge owes them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_http.testing import EdgeContract


async def _make(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    await create_schema(engine)
    await engine.dispose()


@pytest.mark.slow
class TestServe(EdgeContract):
    honest_path = "/packages"
    body_path = "/packages"

    @pytest.fixture
    def command(self, tmp_path: Path) -> list[str | Path]:
        asyncio.run(_make(tmp_path / "registry.sqlite"))
        program = [sys.executable, "-m", "starfish_artifact_registry", "serve"]
        return [*program, "--registry", tmp_path, "--port", "0", "--drain", "2"]

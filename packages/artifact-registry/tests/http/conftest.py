"""A service over a registry, and clients that speak to it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra http")
pytest.importorskip("httpx", reason="needs the group test-extra")

import httpx
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_artifact_registry.http import HttpLimits, anyone, create_registry_router
from starfish_artifact_registry.registry import Registry

PACKAGE = {
    "name": "night shift",
    "producer": "camera 7",
    "subject": "gate",
    "retention_class": "raw-evidence",
}


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables, to be copied."""
    file = tmp_path_factory.mktemp("database") / "registry.sqlite"

    async def make() -> None:
        engine = create_engine(f"sqlite:///{file}")
        await create_schema(engine)
        await engine.dispose()

    asyncio.run(make())
    return file


@pytest.fixture
async def engine(made_database: Path, tmp_path: Path) -> AsyncGenerator[AsyncEngine]:
    """One database suffices here: what differs between them is tested below HTTP."""
    shutil.copy(made_database, tmp_path / "registry.sqlite")
    engine = create_engine(f"sqlite:///{tmp_path / 'registry.sqlite'}")
    yield engine
    await engine.dispose()


@pytest.fixture
def limits() -> HttpLimits:
    """Small, so that a test comes to their ends; but for the time of a body, which a machine that
    is busy elsewhere would use up.
    """
    return HttpLimits(
        max_file_bytes=1_000_000,
        max_json_bytes=10_000,
        min_body_bytes=100,
        heartbeat_s=0.1,
        event_stream_s=2.0,
        max_event_streams=2,
    )


@pytest.fixture
def make_app(registry: Registry, limits: HttpLimits) -> Callable[..., FastAPI]:
    def make(**options: Any) -> FastAPI:
        app = FastAPI()
        options = {"authenticate": anyone} | options
        router = create_registry_router(registry, limits=limits, **options)
        app.include_router(router, prefix="/v1")
        return app

    return make


@pytest.fixture
async def client(make_app: Callable[..., FastAPI]) -> AsyncGenerator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://test/v1") as client:
        yield client


@pytest.fixture
async def package(client: httpx.AsyncClient) -> str:
    """Path of a package that takes files."""
    answer = await client.post("/packages", json=PACKAGE)
    assert answer.status_code == 201
    return f"/packages/{answer.json()['package_id']}"

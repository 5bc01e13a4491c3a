"""Empty databases, of both kinds, as many as a test asks for."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from servers.postgres import postgres_binaries, postgres_server
from starfish_artifact_registry.db.engine import create_engine

__all__ = ("postgres_binaries", "postgres_server")

EmptyDatabase = Callable[[], AsyncEngine]


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty_database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[EmptyDatabase]:
    engines: list[AsyncEngine] = []
    names = (f"database{number}" for number in itertools.count())

    def make_sqlite() -> AsyncEngine:
        return create_engine(f"sqlite:///{tmp_path / next(names)}")

    def make_postgresql() -> AsyncEngine:
        server = request.getfixturevalue("postgres_server")
        name = f"migrations_{uuid.uuid4().hex}"
        server.create_database(name)
        return create_engine(server.address("asyncpg", name))

    if request.param == "postgresql":
        pytest.importorskip("asyncpg", reason="needs the extra postgres")
        request.getfixturevalue("postgres_server")

    def make() -> AsyncEngine:
        engine = make_sqlite() if request.param == "sqlite" else make_postgresql()
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        await engine.dispose()

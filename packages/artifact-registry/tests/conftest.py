"""Fixtures that every test of this package shares."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings
from sqlalchemy import select, type_coerce
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import NullType

from servers.postgres import PostgresServer, postgres_binaries, postgres_server
from servers.s3 import s3_server
from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import (
    artifact_files,
    artifact_metadata,
    artifact_packages,
    create_schema,
    retention_state,
    storage_locations,
)
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.limits import Limits
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_protocol.testing import ManualClock

__all__ = ("postgres_binaries", "postgres_server", "s3_server")

settings.register_profile("default", derandomize=True, deadline=None, max_examples=40)
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=200)
settings.register_profile("deep", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

pytest.register_assert_rewrite("starfish_artifact_registry.testing")

REPETITIONS = int(os.environ.get("STARFISH_REPEAT", "1"))
"""How often each race is run; the promise is 200."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "repetition" in metafunc.fixturenames:
        ids = [f"repeat{number}" for number in range(REPETITIONS)]
        metafunc.parametrize("repetition", range(REPETITIONS), ids=ids)


@pytest.fixture(autouse=True)
def nothing_of_ours_blocks_the_event_loop() -> Iterator[None]:
    with blockbuster_ctx("starfish_artifact_registry") as blocking:
        for function in blocking.functions.values():
            # Made once, before there is anything to wait for: it imports the driver.
            function.can_block_in("db/engine.py", "create_engine")
            # Two looks at the places of the database and its log: microseconds.
            function.can_block_in("db/_database.py", "_check_place")
            function.can_block_in("starfish_disk/sqlite_file.py", "check_in_place")
            function.can_block_in("starfish_disk/sqlite_file.py", "prepare")
            function.can_block_in("starfish_disk/place.py", "check")
            function.can_block_in("starfish_http/callers/_token_file.py", "_stamp")
            # asyncpg looks for a password file and a home folder whenever it connects.
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_arguments")
        yield


async def _make_schema(url: str) -> None:
    engine = create_engine(url)
    await create_schema(engine)
    await engine.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database file as `create_schema` leaves it."""
    path = tmp_path_factory.mktemp("template") / "registry.sqlite"
    asyncio.run(_make_schema(f"sqlite:///{path}"))
    return path.read_bytes()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a database as `create_schema` leaves it."""
    name = f"template_{uuid.uuid4().hex[:16]}"
    postgres_server.create_database(name)
    asyncio.run(_make_schema(postgres_server.address("asyncpg", name)))
    return name


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with tables and seeds; several engines and processes may connect to it."""
    if request.param == "sqlite":
        path = tmp_path / "registry.sqlite"
        path.write_bytes(request.getfixturevalue("sqlite_template"))
        yield f"sqlite+aiosqlite:///{path}"
        return
    asyncpg = pytest.importorskip("asyncpg", reason="the extra postgres is not installed")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    template = request.getfixturevalue("postgres_template")
    name = f"t_{uuid.uuid4().hex[:16]}"

    async def administer(statement: str) -> None:
        connection = await asyncpg.connect(server.dsn)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(administer(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield server.address("asyncpg", name)
    asyncio.run(administer(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def engine(database_url: str) -> AsyncGenerator[AsyncEngine]:
    """An engine of each database."""
    engine = create_engine(database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
def clock() -> ManualClock:
    """The clock of `registry`; stands at 14 November 2023 until it is moved."""
    return ManualClock(1_700_000_000_000)


@pytest.fixture
def dataplane(tmp_path: Path) -> InProcessDataPlane:
    return InProcessDataPlane(LocalBackend(tmp_path / "content"))


@pytest.fixture
def registry_limits() -> Limits:
    """The limits of `registry`; ``Limits(pack_bytes=0)`` where a test is about the backend."""
    return Limits()


@pytest.fixture
def registry(
    engine: AsyncEngine, dataplane: InProcessDataPlane, clock: ManualClock, registry_limits: Limits
) -> Registry:
    return Registry(engine, dataplane, RegistryViewWriter(), clock=clock, limits=registry_limits)


@pytest.fixture
def stream_of() -> Callable[..., AsyncIterator[bytes]]:
    """Make a stream of some chunks."""

    async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return stream


@pytest.fixture
def ingest(stream_of: Callable[..., AsyncIterator[bytes]]) -> Callable[..., Awaitable[UUID]]:
    """Add a small file to a package."""

    async def ingest(
        registry: Registry, package_id: UUID, relative_path: str, data: bytes = b"evidence"
    ) -> UUID:
        return await registry.ingest_file(
            package_id,
            relative_path=relative_path,
            media_type="application/octet-stream",
            stream=stream_of(data),
            actor="ada",
        )

    return ingest


@pytest.fixture
def package_fields() -> dict[str, Any]:
    """What `Registry.create_package` asks for."""
    return {
        "name": "run 7",
        "producer": "sensor 3",
        "subject": "bridge 12",
        "retention_class": "raw-evidence",
        "actor": "ada",
    }


@pytest.fixture
def rows_of() -> Callable[[AsyncEngine], Awaitable[dict[str, list[tuple[Any, ...]]]]]:
    """Every row of every view, as the driver gives it, sorted by its first two columns."""

    async def rows_of(engine: AsyncEngine) -> dict[str, list[tuple[Any, ...]]]:
        async with engine.connect() as connection:
            return {
                table.name: [
                    tuple(row)
                    for row in await connection.execute(
                        select(*(type_coerce(column, NullType) for column in table.c)).order_by(
                            *list(table.c)[:2]
                        )
                    )
                ]
                for table in (
                    *(artifact_packages, artifact_metadata, artifact_files),
                    *(storage_locations, retention_state),
                )
            }

    return rows_of


@pytest.fixture
def make_package(
    ingest: Callable[..., Awaitable[UUID]], package_fields: dict[str, Any]
) -> Callable[..., Awaitable[UUID]]:
    """Make a package of small files; finalized unless told otherwise."""

    async def make_package(
        registry: Registry, files: dict[str, bytes], *, finalize: bool = True, **fields: Any
    ) -> UUID:
        package_id = await registry.create_package(**(package_fields | fields))
        for relative_path, data in files.items():
            await ingest(registry, package_id, relative_path, data)
        if finalize:
            await registry.finalize_package(package_id, actor="ada")
        return package_id

    return make_package

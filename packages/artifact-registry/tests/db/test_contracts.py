"""The database of a registry keeps what every SQLite store promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_artifact_registry.errors import RegistryError
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_disk.testing import (
    ForkContract,
    FullDiskContract,
    OpenStore,
    SqliteFileContract,
)


class _Names:
    """A registry as a store of names: those of its packages."""

    def __init__(self, path: Path) -> None:
        self._engine = create_engine(f"sqlite:///{path}")
        dataplane = InProcessDataPlane(LocalBackend(path.with_name("content")))
        self._registry = Registry(self._engine, dataplane, RegistryViewWriter())

    @classmethod
    async def open(cls, path: Path) -> _Names:
        names = cls(path)
        try:
            await create_schema(names._engine)
        except BaseException:
            await names.close()
            raise
        return names

    async def write(self, name: str) -> None:
        await self._registry.create_package(
            name=name, producer="p", subject="s", retention_class="working", actor="ada"
        )

    async def names(self) -> list[str]:
        found: list[str] = []
        after = None
        while page := await self._registry.list_packages(after=after):
            found += [package.name for package in page]
            after = page[-1].package_id
        return found

    async def close(self) -> None:
        await self._engine.dispose()


class TestRegistryDatabase(SqliteFileContract, ForkContract, FullDiskContract):
    error = RegistryError
    is_async = True

    @pytest.fixture
    def open_store(self) -> OpenStore:
        return _Names.open

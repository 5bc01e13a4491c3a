"""Where a registry is: a folder, or a database and a storage named one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.db._revision import check_revision
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.errors import RegistryNotFoundError
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_artifact_registry.storage._dataplane import InProcessDataPlane

if TYPE_CHECKING:
    from starfish_artifact_registry.storage._base import ContentBackend

__all__ = ("RegistryPlace", "locate")

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_NEEDS = (
    "this {0} needs the extra {1}: pip install --find-links dist 'starfish-artifact-registry[{1}]'"
)
_LEGAL = "sqlite:///PATH or postgresql://USER@HOST/DATABASE"


@dataclass(frozen=True, slots=True)
class RegistryPlace:
    """A database and a storage that belong together."""

    database: URL
    storage: str
    """A folder, or the URL of an object store."""
    backend_id: str
    """The storage's name in the log."""

    def __str__(self) -> str:
        # A file is named as it was typed, and not as the URL that it becomes.
        database = self.database_file or self.database.render_as_string(hide_password=True)
        return f"{database} with {self.storage}"

    @property
    def database_file(self) -> Path | None:
        """The file of an SQLite database."""
        if self.database.get_backend_name() == "sqlite" and self.database.database:
            return Path(self.database.database)
        return None

    def require(self) -> None:
        """Return if there may be a registry; an SQLite file would else be made by looking.

        Raises:
            RegistryNotFoundError: there is none.
        """
        if self.database_file is not None and not self.database_file.is_file():
            raise RegistryNotFoundError(str(self))

    @asynccontextmanager
    async def engine(self) -> AsyncGenerator[AsyncEngine]:
        """The database, closed at the end."""
        try:
            engine = create_engine(self.database)
        except ImportError:
            raise typer.BadParameter(_NEEDS.format("--database", "postgres")) from None
        try:
            yield engine
        finally:
            await engine.dispose()

    def backend(self) -> ContentBackend:
        """The storage.

        Raises:
            typer.BadParameter: there is no such kind of storage, or an extra is missing.
        """
        if "://" not in self.storage:
            return LocalBackend(Path(self.storage), backend_id=self.backend_id)
        try:
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError:
            raise typer.BadParameter(_NEEDS.format("--storage", "s3")) from None

        from starfish_artifact_registry.storage.object_store import ObjectStoreBackend

        try:
            store = from_url(self.storage)
        except BaseError as error:
            reason = str(error).partition("\n")[0]
            raise typer.BadParameter(f"--storage is refused: {reason}") from None
        return ObjectStoreBackend(store, backend_id=self.backend_id)

    @asynccontextmanager
    async def registry(self) -> AsyncGenerator[Registry]:
        """The registry, closed at the end.

        Raises:
            RegistryNotFoundError: there is none.
            SchemaRevisionError: its tables are of another version.
        """
        self.require()
        async with self.engine() as engine:
            await check_revision(engine)
            yield self.over(engine)

    def over(self, engine: AsyncEngine) -> Registry:
        """The registry over an engine that is open already."""
        return Registry(engine, InProcessDataPlane(self.backend()), RegistryViewWriter())


def locate(
    registry: Path | None, database: str | None, storage: str | None, backend_id: str | None
) -> RegistryPlace:
    """Read the options that say where the registry is.

    Raises:
        typer.BadParameter: they say nothing, too much, or no legal place.
    """
    if registry is not None and (database is not None or storage is not None):
        raise typer.BadParameter(
            "--registry names both; leave it out (and ARTIFACT_REGISTRY unset) "
            "where --database and --storage are given"
        )
    if registry is not None:
        url = URL.create(_DRIVERS["sqlite"], database=str(registry / "registry.sqlite"))
        return RegistryPlace(url, str(registry / "content"), backend_id or "local")
    if database is None or storage is None:
        raise typer.BadParameter(
            "where is the registry? Give --registry DIR, set ARTIFACT_REGISTRY, "
            "or give --database URL and --storage URL"
        )
    is_url = "://" in storage
    return RegistryPlace(
        _database_url(database),
        storage.removeprefix("file://"),
        backend_id or (storage.partition("://")[0] if is_url else "local"),
    )


def _database_url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        raise typer.BadParameter(f"--database is not a URL; it must be one of {_LEGAL}") from None
    driver = _DRIVERS.get(url.get_backend_name())
    if driver is None:
        raise typer.BadParameter(
            f"--database {url.drivername}: is refused; it must be one of {_LEGAL}"
        )
    return url.set(drivername=driver)

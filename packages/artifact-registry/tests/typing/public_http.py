"""Read by a type checker, never run: HTTP, migrations and files."""

from pathlib import Path
from typing import assert_type
from uuid import UUID

from fastapi import APIRouter, FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from starfish_artifact_registry.db._revision import revision_of
from starfish_artifact_registry.db.migrate import migrate
from starfish_artifact_registry.error_codes import ErrorCode, error_code
from starfish_artifact_registry.errors import RegistryError
from starfish_artifact_registry.http import (
    Access,
    HttpLimits,
    create_registry_app,
    create_registry_router,
)
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.views._files import FileRecord
from starfish_http.callers import TokenFile, create_token_role_resolver


async def actor_of(token: str) -> str | None:
    return token or None


async def anybody(access: Access) -> bool:
    return access.action == "read"


async def use(registry: Registry, engine: AsyncEngine, file_id: UUID, error: RegistryError) -> None:
    router = create_registry_router(
        registry, authenticate=actor_of, authorize=anybody, limits=HttpLimits(max_file_bytes=1)
    )
    assert_type(router, APIRouter)
    tokens = TokenFile(Path("tokens"))
    assert_type(
        create_registry_app(registry, authenticate=create_token_role_resolver(tokens)), FastAPI
    )
    assert_type(await migrate(engine), str | None)
    assert_type(await revision_of(engine), str | None)
    assert_type(await registry.find_file(file_id), FileRecord)
    assert_type(error_code(error), ErrorCode)

"""A service with a console: one public collection, one of each identity, one with a hidden field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from starfish_http.callers import TokenFile, create_token_role_resolver
from starfish_http.components import Component
from starfish_server.app import create_app
from starfish_server.config.schema import (
    AppendOnlyConfig,
    CollectionConfig,
    FieldPermission,
    SyncConfig,
)
from starfish_server.console import create_console
from starfish_server.storage.memory import MemoryObjectStore

CONFIG = SyncConfig(
    collections=[
        CollectionConfig(
            name="pages", storage_path="pages/{page}", read_roles=["public"], write_roles=["public"]
        ),
        CollectionConfig(
            name="diary",
            storage_path="diary/{identity}/{day}",
            read_roles=["self"],
            write_roles=["self"],
        ),
        CollectionConfig(
            name="cases",
            storage_path="cases/{case}",
            read_roles=["clerk", "judge"],
            write_roles=["judge"],
            field_permissions={"verdict": FieldPermission(read_roles=["judge"])},
        ),
        CollectionConfig(
            name="photos",
            storage_path="photos/{photo}",
            read_roles=["public"],
            write_roles=["public"],
            allowed_mime_types=["image/png"],
        ),
        CollectionConfig(
            name="log",
            storage_path="log/{name}",
            read_roles=["public"],
            write_roles=["public"],
            append_only=AppendOnlyConfig(
                type="by_timestamp", field="items", require_author_signature=False
            ),
        ),
    ]
)


class Service:
    """An application with a console, and tokens for its people."""

    def __init__(self, folder: Path, components: tuple[Component, ...] = ()) -> None:
        tokens = TokenFile(folder / "tokens.json")
        self.tokens = {
            name: tokens.create(name, roles=roles)
            for name, roles in {"ada": [], "carl": ["clerk"], "judy": ["judge"]}.items()
        }
        store = MemoryObjectStore()
        resolver = create_token_role_resolver(tokens)
        self.app: FastAPI = create_app(CONFIG, store=store, role_resolver=resolver)
        self.app.include_router(
            create_console(
                store=store, config=CONFIG, role_resolver=resolver, components=components
            )
        )

    def client(self, name: str | None = None) -> httpx.AsyncClient:
        """A browser: of somebody who signed in, or of nobody."""
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://starfish.test"
        )
        if name is not None:
            client.cookies.set("starfish-console", self.tokens[name])
        return client

    async def push(self, path: str, data: dict[str, object], name: str | None = None) -> None:
        """Write a document as somebody."""
        headers = {} if name is None else {"authorization": f"Bearer {self.tokens[name]}"}
        async with self.client() as client:
            answer = await client.post(
                f"/push/{path}", json={"data": data, "baseHash": None}, headers=headers
            )
        assert answer.status_code == 200, answer.text


@pytest.fixture
def make_service(tmp_path: Path) -> Callable[..., Service]:
    def make(*components: Component) -> Service:
        return Service(tmp_path, components)

    return make

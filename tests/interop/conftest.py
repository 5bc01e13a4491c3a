"""One server for every peer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.requests import Request

from starfish_server import AuthResult, CollectionConfig, SyncConfig
from starfish_server.app import create_app
from starfish_server.config.schema import AppendOnlyConfig, ConfigEndpointOptions
from starfish_server.storage.sqlite import SqliteObjectStore

CONFIG = SyncConfig(
    collections=[
        CollectionConfig(
            name="notes",
            storage_path="notes/{identity}",
            read_roles=["public"],
            write_roles=["public"],
        ),
        CollectionConfig(
            name="log",
            storage_path="log/{room}",
            read_roles=["public"],
            write_roles=["public"],
            append_only=AppendOnlyConfig(type="by_timestamp", require_author_signature=False),
        ),
        CollectionConfig(
            name="inbox",
            storage_path="inbox/{identity}",
            read_roles=["public"],
            write_roles=["public"],
            append_only=AppendOnlyConfig(type="by_timestamp"),
        ),
        CollectionConfig(
            name="photos",
            storage_path="photos/{photo}",
            read_roles=["public"],
            write_roles=["public"],
            allowed_mime_types=["image/*"],
        ),
    ]
)


async def anybody(_request: Request) -> AuthResult:
    return AuthResult(identity=None, roles=[])


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = SqliteObjectStore(tmp_path_factory.mktemp("data") / "documents.sqlite")
    app = create_app(
        CONFIG,
        store=store,
        role_resolver=anybody,
        config_endpoint=ConfigEndpointOptions(auth="public"),
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()

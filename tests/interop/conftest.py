"""One server for every peer, and the published packages, each in an environment of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.requests import Request

from starfish_server import AuthResult, CollectionConfig, SyncConfig
from starfish_server.app import create_app
from starfish_server.config.schema import AppendOnlyConfig, ConfigEndpointOptions
from starfish_server.storage.sqlite import SqliteObjectStore

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools/bin/uv")
# Exact versions: a pre-release moves, and its dependency ranges admit pre-releases of others.
PYTHON_PEER = ("starfish-sdk==3.0.0a72", "starfish-protocol==3.0.0a72", "httpx==0.28.1")
SCOPE = "@drakkar.software"
JAVASCRIPT_PEER = (
    f"{SCOPE}/starfish-client@3.0.0-alpha.65",
    f"{SCOPE}/starfish-protocol@3.0.0-alpha.65",
    f"{SCOPE}/starfish-outbox@3.0.0-alpha.62",
)

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


@pytest.fixture(scope="session")
def peer_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peer")
    python = folder / "venv" / "bin" / "python"
    for command in (
        [UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"],
        [UV, "pip", "install", "--quiet", "--no-config", "--python", python, *PYTHON_PEER],
    ):
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode != 0:
            pytest.skip(f"the public SDK cannot be installed here: {done.stderr.strip()[-300:]}")
    return python


@pytest.fixture(scope="session")
def peer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("javascript-peer")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    done = subprocess.run(
        [
            npm,
            "install",
            "--no-audit",
            "--no-fund",
            "--silent",
            "--ignore-scripts",
            *JAVASCRIPT_PEER,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"the public packages cannot be installed here: {done.stderr.strip()[-300:]}")
    return folder

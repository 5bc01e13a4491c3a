"""One service of one's own, put together from every package that has routes or a plugin."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from obstore.store import LocalStore as ObstoreFolder

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.http import anyone, create_registry_router
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_mpack_wire import LocalStore, WireClient
from starfish_mpack_wire.server import (
    WireOptions,
    create_repo,
    create_token,
    create_wire_router,
    open_rows,
)
from starfish_mpack_wire.working_tree import WorkingTree
from starfish_protocol.address import ContentAddress
from starfish_server import CollectionConfig, SqliteObjectStore, SyncConfig
from starfish_server.app import create_app
from starfish_server.storage.changes import ChangeSource
from starfish_watcher import AsyncRunner, SqliteSink, View

pytestmark = pytest.mark.network

NOTES = CollectionConfig(
    name="notes", storage_path="notes/{note}", read_roles=["public"], write_roles=["public"]
)
PACKAGE = {"name": "n", "producer": "p", "subject": "s", "retention_class": "raw-evidence"}


class Writes(View[Any]):
    """How often each document was written."""

    name = "writes"

    def prepare(self, tables: Any) -> None:
        tables.execute("CREATE TABLE writes (document TEXT PRIMARY KEY, times INTEGER)")

    def apply(self, tables: Any, event: Any) -> None:
        tables.execute(
            "INSERT INTO writes VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
            (event.entity,),
        )


def compose(folder: Path, views: SqliteSink) -> FastAPI:
    """Documents at the root, evidence and histories below it, each write counted by a view."""
    documents = SqliteObjectStore(folder / "documents.sqlite")
    app = create_app(
        SyncConfig(collections=[NOTES]),
        store=documents,
    )
    runner = AsyncRunner(ChangeSource(documents.changes), [Writes()], name="service", sink=views)
    engine = create_engine(f"sqlite:///{folder / 'registry.sqlite'}")
    dataplane = InProcessDataPlane(LocalBackend(folder / "content"))
    registry = Registry(engine, dataplane, RegistryViewWriter())
    app.include_router(create_registry_router(registry, authenticate=anyone), prefix="/evidence")
    rows = open_rows(folder)
    packs = ObstoreFolder(folder / "packs", mkdir=True)
    app.include_router(
        create_wire_router(WireOptions(repos=rows, blobs=packs)), prefix="/histories"
    )
    of_documents = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with of_documents(app):
            await create_schema(engine)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(runner.run())
                yield
                runner.stop()
            await rows.close()
            await engine.dispose()

    app.router.lifespan_context = lifespan
    return app


@pytest.fixture
def views(tmp_path: Path) -> Generator[SqliteSink]:
    with SqliteSink(tmp_path / "views.sqlite") as sink:
        yield sink


@pytest.fixture
def url(tmp_path: Path, views: SqliteSink) -> Generator[str]:
    config = uvicorn.Config(compose(tmp_path, views), port=0, log_level="warning")
    server = uvicorn.Server(config)
    serving = threading.Thread(target=server.run)
    serving.start()
    while not server.started and serving.is_alive():
        serving.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    serving.join()


def written_soon(views: SqliteSink) -> list[tuple[str, int]]:
    deadline = time.monotonic() + 20
    rows: list[tuple[str, int]] = []
    with views.reading() as connection:
        while not rows and time.monotonic() < deadline:
            time.sleep(0.02)
            rows = connection.execute("SELECT document, times FROM writes").fetchall()
    return rows


def test_documents_events_evidence_and_histories_are_served_side_by_side(
    url: str, views: SqliteSink, tmp_path: Path
) -> None:
    with httpx.Client(base_url=url) as client:
        pushed = client.post("/push/notes/1", json={"data": {"text": "hi"}, "baseHash": None})
        assert pushed.status_code == 200
        assert written_soon(views) == [("notes/1", 1)]
        assert client.get("/pull/notes/1").json()["data"] == {"text": "hi"}

        made = client.post("/evidence/packages", json=PACKAGE)
        package = made.headers["location"]
        assert package.startswith("/evidence/packages/")
        assert client.put(f"{package}/files/note.json", content=pushed.content).status_code == 201
        assert client.post(f"{package}/finalize").status_code == 200
        manifest = client.get(f"{package}/manifest", headers={"accept": "application/cbor"})
        assert manifest.headers["etag"].strip('"') == str(ContentAddress.of(manifest.content))

    create_repo(tmp_path, "ada/notes")
    token = create_token(tmp_path, "ada")
    (tmp_path / "work").mkdir()
    with WorkingTree.create(tmp_path / "work") as tree:
        (tmp_path / "work/note.json").write_bytes(pushed.content)
        tree.commit("one note", author="ada")
        with WireClient(f"{url}/histories/ada/notes", token=token) as wire:
            head = wire.push(tree.store, "main").head
    with (
        LocalStore(tmp_path / "clone") as clone,
        WireClient(f"{url}/histories/ada/notes") as wire,
    ):
        wire.clone(clone)
        assert clone.branches() == {"main": head}

"""The service that the browser tests look at: FOLDER PORT."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request

from starfish_http import serve
from starfish_http.components import Component, Facts, Link, Page, PageRequest, Section, Table
from starfish_server import AuthResult, CollectionConfig, SyncConfig
from starfish_server.app import create_app
from starfish_server.console import create_console
from starfish_server.storage.sqlite import SqliteObjectStore

CONFIG = SyncConfig(
    collections=[
        CollectionConfig(
            name="pages",
            storage_path="pages/{page}",
            read_roles=["public"],
            write_roles=["public"],
        )
    ]
)


async def _anybody(_request: Request) -> AuthResult:
    return AuthResult(identity=None)


async def _show(request: PageRequest) -> Sequence[Section]:
    size = 0 if request.file is None else len(request.file)
    return [
        Facts("A file", [("size", f"{size} bytes"), ("again", Link("here", "overview"))]),
        Table("Rows", ["one", "two"], [[1, None]]),
    ]


def _make(folder: Path) -> FastAPI:
    store = SqliteObjectStore(folder / "documents.sqlite")
    app = create_app(CONFIG, store=store, role_resolver=_anybody)
    demo = Component(
        "demo", "Demo", pages=[Page("overview", "Overview", _show, takes_file="a file")]
    )
    app.include_router(
        create_console(
            store=store, config=CONFIG, role_resolver=_anybody, components=[demo], data=str(folder)
        )
    )
    return app


if __name__ == "__main__":
    sys.exit(serve.run(partial(_make, Path(sys.argv[1])), port=int(sys.argv[2]), name="console"))

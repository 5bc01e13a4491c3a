"""A service composed of the libraries: pages that clients edit, and one list of them.

`make run` serves it; `make demo` starts, kills and restarts it.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request

from starfish_http import serve
from starfish_http.components import everybody
from starfish_outbox import console as outbox_pages
from starfish_projection import Projection, ProjectionSet, create_projection_server_plugin
from starfish_projection import console as projection_pages
from starfish_protocol.plugins import WriteEvent
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
            # It listens on loopback only; see docs/configuration.md for roles.
            write_roles=["public"],
            object_schema={
                "type": "object",
                "required": ["title", "text"],
                "properties": {"title": {"type": "string"}, "text": {"type": "string"}},
            },
            listable=True,
        ),
        CollectionConfig(
            name="contents", storage_path="contents", read_roles=["public"], pull_only=True
        ),
    ]
)


async def anybody(_request: Request) -> AuthResult:
    """Nobody signs in here: every caller is anonymous."""
    return AuthResult(identity=None, roles=[])


def contents_entry(event: WriteEvent) -> ProjectionSet | None:
    """The line of the table of contents for a page."""
    if event.body is None:
        return None
    words = len(str(event.body["text"]).split())
    return ProjectionSet(event.params["page"], {"title": event.body["title"], "words": words})


def create_service(data: Path) -> FastAPI:
    """The application, with everything it stores under one folder."""
    store = SqliteObjectStore(data / "documents.sqlite")
    contents = create_projection_server_plugin(
        store=store, projections=[Projection("pages", "contents", contents_entry)]
    )
    # It listens on loopback only, so each program of this machine may look.
    components = [
        projection_pages.console_component(contents, may_see=everybody),
        outbox_pages.console_component(may_see=everybody),
    ]
    app = create_app(
        CONFIG, store=store, role_resolver=anybody, plugins=[contents], components=components
    )
    app.include_router(
        create_console(
            store=store,
            config=CONFIG,
            role_resolver=anybody,
            components=components,
            data=str(data),
        )
    )
    return app


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder for the database")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    return serve.run(
        partial(create_service, arguments.data), port=arguments.port, name="starfish-demo"
    )


if __name__ == "__main__":
    sys.exit(main())

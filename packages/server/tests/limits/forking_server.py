"""A script: serves a folder from a child process as often as it is told to.

Everything is imported once. A line `<store> <folder> <descriptor>` on standard input forks a child
that serves the listening socket, and its process id is the answer. So a test may kill a server
every few hundred milliseconds.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import uvicorn

from starfish_server import (
    AppendOnlyConfig,
    CollectionConfig,
    FilesystemObjectStore,
    SqliteObjectStore,
    SyncConfig,
)
from starfish_server.app import create_app
from starfish_server.storage.postgres import PostgresObjectStore

CONFIG = SyncConfig(
    collections=[
        CollectionConfig(
            name="notes", storage_path="notes/{note}", read_roles=["public"], write_roles=["public"]
        ),
        CollectionConfig(
            name="log",
            storage_path="log/{room}",
            read_roles=["public"],
            write_roles=["public"],
            append_only=AppendOnlyConfig(
                type="by_timestamp", require_author_signature=False, chunk_size=8
            ),
        ),
    ]
)


def serve(store: str, folder: Path, descriptor: int) -> None:
    stores = {
        "sqlite": lambda: SqliteObjectStore(folder / "documents.sqlite"),
        "filesystem": lambda: FilesystemObjectStore(folder),
        "postgres": lambda: PostgresObjectStore((folder / "dsn").read_text()),
    }
    app = create_app(CONFIG, store=stores[store]())
    config = uvicorn.Config(app, log_level="error")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def main() -> None:
    for line in sys.stdin:
        store, folder, descriptor = line.split()
        child = os.fork()
        if child == 0:
            try:
                serve(store, Path(folder), int(descriptor))
            finally:
                os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

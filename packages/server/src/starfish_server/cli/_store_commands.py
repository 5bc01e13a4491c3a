"""Commands that work on a store as a whole; each refuses, or completes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from starfish_server.cli._options import age_ms
from starfish_server.cli._output import progress, say_error, say_result
from starfish_server.maintenance._store_place import StoreKind, StorePlace

__all__ = ("add_store_commands",)

Data = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the store.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, errors too.")]


def _kind(text: str) -> StoreKind:
    if text == "sqlite":
        return "sqlite"
    if text == "filesystem":
        return "filesystem"
    raise typer.BadParameter(f"{text!r} is not a store; it must be one of sqlite, filesystem")


Store = Annotated[
    str,
    typer.Option(parser=_kind, metavar="sqlite|filesystem", help="Kind of the store in --data."),
]


def add_store_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    commands: dict[str, Callable[..., None]] = {
        "backup": _backup,
        "restore": _restore,
        "export": _export,
        "import": _import,
        "compact": _compact,
        "verify": _verify,
    }
    for name, command in commands.items():
        app.command(name)(command)


def _backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="New file for the copy.")],
    *,
    data: Data,
    as_json: Json = False,
) -> None:
    """Copy a SQLite store into a file, while it is in use."""
    from starfish_server.maintenance._sqlite_copies import backup

    with progress("pages", as_json=as_json):
        size = backup(StorePlace("sqlite", data), target)
    result = {"file": str(target), "bytes": size}
    say_result("backup", result, f"{target}: {size} bytes", as_json=as_json)


def _restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file that 'backup' wrote.")],
    *,
    data: Data,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a store that is there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a backup in the place of a SQLite store; stop the server first."""
    from starfish_server.maintenance._sqlite_copies import restore

    place = StorePlace("sqlite", data)
    restore(source, place, replace=replace)
    say_result("restore", {"store": str(place.path)}, f"{place.path}: restored", as_json=as_json)


def _export(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="New file of JSON lines.")],
    *,
    data: Data,
    store: Store = "sqlite",
    as_json: Json = False,
) -> None:
    """Write every document into a file, while the store is in use."""
    from starfish_server.maintenance._exporting import export_store

    with progress("values", as_json=as_json) as on_progress:
        count = asyncio.run(export_store(StorePlace(_kind(store), data), target, on_progress))
    result = {"file": str(target), "values": count}
    say_result("export", result, f"{target}: {count} value(s)", as_json=as_json)


def _import(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="An export, or a folder of documents.")
    ],
    *,
    config: Annotated[Path, typer.Option(metavar="FILE", help="Names the collections.")],
    data: Data,
    store: Store = "sqlite",
    as_json: Json = False,
) -> None:
    """Make a new store of an export, or of a folder of the public filesystem store."""
    from starfish_server.config._loader import load_config
    from starfish_server.maintenance._importing import import_store

    place = StorePlace(_kind(store), data)
    loaded = load_config(config)
    with progress("values", as_json=as_json) as on_progress:
        count = asyncio.run(import_store(source, place, loaded, on_progress))
    result = {"store": str(place.path), "values": count}
    say_result("import", result, f"{place.path}: {count} value(s)", as_json=as_json)


def _compact(
    *,
    data: Data,
    store: Store = "sqlite",
    tombstones: Annotated[
        int,
        typer.Option(parser=age_ms, metavar="AGE", help="Keep tombstones that are younger."),
    ] = "30d",  # type: ignore[assignment]
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Give free space back; writes wait meanwhile.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove expired documents and superseded changes, while the store is in use."""
    from starfish_protocol.clock import SystemClock
    from starfish_server.maintenance._compacting import compact_changes, expire_documents
    from starfish_server.maintenance._sqlite_copies import vacuum as vacuum_file
    from starfish_server.storage.adapter import as_object_store

    place = StorePlace(_kind(store), data)
    place.require()

    async def work(on_progress: Callable[[int, int | None], None]) -> tuple[int, int]:
        opened, clock = place.open(), SystemClock()
        try:
            served = as_object_store(opened)
            expired = await expire_documents(served, clock, on_progress=on_progress)
            changes = await compact_changes(
                served, clock, retention_ms=tombstones, on_progress=on_progress
            )
        finally:
            await opened.close()
        return expired, changes

    with progress("removed", as_json=as_json) as on_progress:
        expired, changes = asyncio.run(work(on_progress))
        if vacuum and place.kind == "sqlite":
            vacuum_file(place)
    result = {"expired": expired, "changes": changes}
    text = f"removed {expired} expired document(s) and {changes} change(s)"
    say_result("compact", result, text, as_json=as_json)


def _verify(*, data: Data, store: Store = "sqlite", as_json: Json = False) -> None:
    """Read everything and compare it with its hashes and the change log."""
    from starfish_server.maintenance._verifying import verify_store

    with progress("documents", as_json=as_json) as on_progress:
        found = asyncio.run(verify_store(StorePlace(_kind(store), data), on_progress))
    if found.problems:
        shown = "\n".join(found.problems)
        say_error("verify", "damaged", shown, as_json=as_json)
        raise typer.Exit(1)
    result = {"documents": found.documents}
    say_result("verify", result, f"{found.documents} document(s), no damage", as_json=as_json)

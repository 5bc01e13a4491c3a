"""``ingest`` and ``get``: files in and out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from starfish_artifact_registry.cli._command import LOCAL_ACTOR, Actor, Session, command
from starfish_artifact_registry.cli._exit_status import exit_status
from starfish_artifact_registry.cli._packages import PackageId
from starfish_artifact_registry.cli._progress import Meter, meter
from starfish_artifact_registry.cli._source_files import (
    SkippedFile,
    SourceFile,
    find_source_files,
)
from starfish_artifact_registry.cli._terminal_text import printable, readable_size
from starfish_artifact_registry.error_codes import ErrorCode, error_code
from starfish_artifact_registry.errors import RegistryError
from starfish_disk import new_file
from starfish_disk.errors import DiskError, FileChangedError

__all__ = ("add_file_commands",)

_UNREADABLE = ErrorCode("source_unreadable", 400)
_CHANGED = ErrorCode("source_changed", 400)


def add_file_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    command(app, "ingest")(ingest)
    command(app, "get")(get)


@dataclass(slots=True)
class _Ingested:
    files: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    skipped: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    refused: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    worst: ErrorCode | None = None
    fatal: RegistryError | None = None


async def ingest(
    session: Session,
    package_id: PackageId,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, or folders with all below.")
    ],
    *,
    prefix: Annotated[
        str, typer.Option(metavar="FOLDER", help="Put them below this folder of the package.")
    ] = "",
    media_type: Annotated[
        str | None, typer.Option(help="Of all of them; else what the name's ending says.")
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Files on their way at a time.")
    ] = 8,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize",
            help="Bring names to NFC, as disks of a Mac do not; the original is kept.",
        ),
    ] = False,
    allow_changing: Annotated[
        bool,
        typer.Option(
            "--allow-changing", help="Take files that change while they are read; the log says so."
        ),
    ] = False,
    actor: Actor = LOCAL_ACTOR,
) -> None:
    """Add files to a package; refused files are named, and the others are added all the same."""
    done = _Ingested()
    sources = await asyncio.to_thread(
        functools.partial(
            _find, paths, f"{prefix.rstrip('/')}/" if prefix else "", done, normalize=normalize
        )
    )
    for skipped in done.skipped:
        session.output.note(f"skipped {skipped['path']}: {skipped['reason']}")
    total = sum(source.size for source in sources)
    with meter(session.output, files=len(sources), size=total) as progress:
        async with session.registry() as registry:

            async def worker(waiting: list[SourceFile]) -> None:
                while waiting and done.fatal is None:
                    source = waiting.pop()
                    add = functools.partial(
                        registry.ingest_file,
                        package_id,
                        relative_path=source.relative_path,
                        media_type=media_type or source.media_type,
                        actor=actor,
                        facts=source.facts | ({"may_have_changed": True} if allow_changing else {}),
                    )
                    await _ingest_one(add, source, done, progress, may_change=allow_changing)

            waiting = sources[::-1]
            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(min(parallel, len(sources))):
                        workers.create_task(worker(waiting))
            except asyncio.CancelledError:
                session.output.note(
                    f"interrupted: {len(done.files)} of {len(sources)} files are in the package; "
                    "run the same command again to go on"
                )
                raise
    if done.fatal is not None:
        raise done.fatal
    _report(session, package_id, done, progress)


async def get(
    session: Session,
    file_id: Annotated[UUID, typer.Argument(metavar="FILE", help="Id of the file.")],
    *,
    target: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="Where to; else standard output."),
    ] = None,
) -> None:
    """Write the bytes of a file, checked against its hash as they pass."""
    if target is None and (session.output.as_json or sys.stdout.isatty()):
        raise typer.BadParameter("the bytes would go to the terminal or into JSON; give --output")
    async with session.registry() as registry:
        file = await registry.find_file(file_id)
        content = await registry.read_verified(file)
        with meter(session.output, files=1, size=file.size) as progress:
            if target is None:
                async for chunk in content:
                    session.output.content(chunk)
                return
            size = await _write_whole(content, target, progress)
    session.output.result(
        {"file_id": str(file_id), "path": str(target), "size": size},
        f"{printable(str(target))}: {readable_size(size)}",
    )


def _find(paths: list[Path], prefix: str, done: _Ingested, *, normalize: bool) -> list[SourceFile]:
    sources: list[SourceFile] = []
    for path in paths:
        try:
            for found in find_source_files(path, prefix, normalize=normalize):
                if isinstance(found, SkippedFile) and found.path == path:
                    _refuse(done, path, _UNREADABLE, f"it is {found.reason}, which is not followed")
                elif isinstance(found, SkippedFile):
                    done.skipped.append({"path": str(found.path), "reason": found.reason})
                else:
                    sources.append(found)
        except OSError as error:
            _refuse(done, path, _UNREADABLE, error.strerror or str(error))
    return sources


async def _ingest_one(
    add: Callable[..., Awaitable[UUID]],
    source: SourceFile,
    done: _Ingested,
    progress: Meter,
    *,
    may_change: bool,
) -> None:
    try:
        async with contextlib.aclosing(
            source.read(progress.add_bytes, may_change=may_change)
        ) as stream:
            file_id = await add(stream=stream)
    except RegistryError as error:
        row = error_code(error)
        if row.status >= 500 or row.status == 404:
            done.fatal = error  # the next file would meet the same
            return
        _refuse(done, source.path, row, str(error))
    except FileChangedError as error:
        _refuse(done, source.path, _CHANGED, error.reason)
    except DiskError as error:
        _refuse(done, source.path, _UNREADABLE, error.reason)
    else:
        done.files.append({"relative_path": source.relative_path, "file_id": str(file_id)})
        progress.add_file()


def _refuse(done: _Ingested, path: Path, row: ErrorCode, message: str) -> None:
    done.refused.append({"path": str(path), "error": row.code, "message": message})
    done.worst = done.worst or row


def _report(session: Session, package_id: UUID, done: _Ingested, progress: Meter) -> None:
    output = session.output
    done.files.sort(key=lambda each: str(each["relative_path"]))
    result = {
        "package_id": str(package_id),
        "files": done.files,
        "bytes": progress.bytes,
        "skipped": done.skipped,
        "refused": done.refused,
    }
    count = len(done.files)
    text = f"{count} file{'' if count == 1 else 's'}, {readable_size(progress.bytes)}"
    if done.worst is None:
        output.result(result, text)
        return
    for refused in done.refused:
        output.note(f"refused {refused['path']}: {refused['message']}")
    output.failed_check(result, f"{text}; {len(done.refused)} refused")
    raise typer.Exit(exit_status(done.worst))


async def _write_whole(content: AsyncIterator[bytes], target: Path, progress: Meter) -> int:
    """Write all of it or nothing: the name is given when the last byte has been checked."""
    size = 0
    with contextlib.ExitStack() as opened:
        file = await asyncio.to_thread(opened.enter_context, new_file(target.parent))
        async for chunk in content:
            await asyncio.to_thread(file.write, chunk)
            size += len(chunk)
            progress.add_bytes(len(chunk))
        await asyncio.to_thread(file.publish, target.name)
    return size

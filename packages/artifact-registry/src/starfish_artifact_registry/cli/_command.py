"""What every command has in common: where the registry is, how it answers, how it fails.

A command is an ``async def`` whose first parameter is its `Session`; the others are its own
options. `command` adds the common options, runs it, and turns every error that bad input can cause
into one line and an exit status.
"""

from __future__ import annotations

import asyncio
import functools
import getpass
import inspect
import io
import os
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar, get_type_hints

import typer
from sqlalchemy.exc import SQLAlchemyError

from starfish_artifact_registry.cli._exit_status import ExitStatus, exit_status
from starfish_artifact_registry.cli._output import Output
from starfish_artifact_registry.cli._place import RegistryPlace, locate
from starfish_artifact_registry.error_codes import error_code, error_facts
from starfish_artifact_registry.errors import RegistryError
from starfish_artifact_registry.registry import Registry
from starfish_disk.errors import DiskError
from starfish_http.errors import TokenFileError

__all__ = (
    "LOCAL_ACTOR",
    "Actor",
    "BackendIdOption",
    "DatabaseOption",
    "JsonOption",
    "RegistryOption",
    "Session",
    "StorageOption",
    "command",
)

P = ParamSpec("P")
T = TypeVar("T")

_WHERE = "Where the registry is"
RegistryOption = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        envvar="ARTIFACT_REGISTRY",
        metavar="DIR",
        help="Folder with registry.sqlite and content/.",
        rich_help_panel=_WHERE,
        show_default=False,
    ),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        envvar="ARTIFACT_REGISTRY_DATABASE",
        metavar="URL",
        help="postgresql://… or sqlite:///…, with --storage.",
        rich_help_panel=_WHERE,
        show_default=False,
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        envvar="ARTIFACT_REGISTRY_STORAGE",
        metavar="URL",
        help="s3://bucket/prefix or a folder, with --database.",
        rich_help_panel=_WHERE,
        show_default=False,
    ),
]
BackendIdOption = Annotated[
    str | None,
    typer.Option(
        "--backend-id",
        metavar="NAME",
        help="The storage's name in the log, if it is not 'local' or the URL's scheme.",
        rich_help_panel=_WHERE,
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Actor = Annotated[
    str,
    typer.Option(
        envvar="ARTIFACT_REGISTRY_ACTOR",
        help="Whom the log names as the one who did it; user@host if not said.",
        show_default=False,
    ),
]
"""The option of every command that writes to the log."""


def _local_actor() -> str:
    """Who runs this process, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


LOCAL_ACTOR: Final = _local_actor()
"""The actor where none is named."""


@dataclass(frozen=True, slots=True)
class Session:
    """One run of one command."""

    output: Output
    where: Callable[[], RegistryPlace]

    @property
    def place(self) -> RegistryPlace:
        """Where the registry is.

        Raises:
            typer.BadParameter: the options do not say.
        """
        return self.where()

    @asynccontextmanager
    async def registry(self) -> AsyncGenerator[Registry]:
        """The registry, closed at the end."""
        async with self.place.registry() as registry:
            yield registry


def command(
    app: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Session, P], Awaitable[None]]], Callable[..., None]]:
    """Make an ``async def`` a command of the application."""

    def decorate(
        function: Callable[Concatenate[Session, P], Awaitable[None]],
    ) -> Callable[..., None]:
        def run(
            context: typer.Context,
            *arguments: Any,
            registry: Path | None,
            database: str | None,
            storage: str | None,
            backend_id: str | None,
            as_json: bool,
            **options: Any,
        ) -> None:
            shared: dict[str, Any] = context.find_root().obj or {}
            output = Output(name, as_json=as_json or shared.get("as_json", False))
            registry = _chosen(context, "registry", registry, shared)
            database = _chosen(context, "database", database, shared)
            storage = _chosen(context, "storage", storage, shared)
            backend_id = _chosen(context, "backend_id", backend_id, shared)
            session = Session(
                output, functools.partial(locate, registry, database, storage, backend_id)
            )
            _run(function(session, *arguments, **options), output)

        _describe(run, function)
        return app.command(name)(run)

    return decorate


def _chosen(context: typer.Context, name: str, value: T, shared: Mapping[str, Any]) -> T:
    """The option behind the command's name, else the one before it, else that of the environment."""
    source = context.get_parameter_source(name)
    is_given = source is not None and source.name == "COMMANDLINE"
    if not is_given and shared.get(name) is not None:
        found: T = shared[name]
        return found
    return value


def _describe(run: Callable[..., None], function: Callable[..., Any]) -> None:
    """Give the wrapper the signature that Typer reads: the command's own and the common options."""
    hints = get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    parameters = [
        inspect.Parameter(
            "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        ),
        *(each.replace(annotation=hints[each.name]) for each in own),
    ]
    for option, annotation in (
        ("registry", RegistryOption),
        ("database", DatabaseOption),
        ("storage", StorageOption),
        ("backend_id", BackendIdOption),
        ("as_json", JsonOption),
    ):
        parameters.append(
            inspect.Parameter(
                option,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if option == "as_json" else None,
                annotation=annotation,
            )
        )
    run.__name__ = function.__name__
    run.__doc__ = function.__doc__
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    vars(run)["__signature__"] = inspect.Signature(parameters)


def _run(command: Awaitable[None], output: Output) -> None:
    for stream in (sys.stdout, sys.stderr):
        # A name out of a file must not be what makes the message fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(_awaited(command))
        finally:
            output.finish()
    except BrokenPipeError:
        # The reader went away, as `head` does.
        output.reader_has_gone()
    except DiskError as error:
        output.error("unavailable", f"{error.path}: {error.reason}")
        raise typer.Exit(ExitStatus.UNAVAILABLE) from error
    except TokenFileError as error:
        output.error("token_file", str(error))
        raise typer.Exit(ExitStatus.REFUSED) from error
    except RegistryError as error:
        row = error_code(error)
        output.error(row.code, str(error), error_facts(error))
        raise typer.Exit(exit_status(row)) from error
    except FileNotFoundError as error:
        output.error("not_found", _first_line(error))
        raise typer.Exit(ExitStatus.NOT_FOUND) from error
    except (SQLAlchemyError, OSError) as error:
        output.error("unavailable", _first_line(error))
        raise typer.Exit(ExitStatus.UNAVAILABLE) from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, for much of what a registry does is to wait for threads; it is not for Windows."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _awaited(command: Awaitable[None]) -> None:
    await command


def _first_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error).partition("\n")[0] or type(error).__name__

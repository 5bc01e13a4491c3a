"""``repo create, token create, serve``: a server from a folder.

What only a server needs is imported when one of these is called: the other commands start faster.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from starfish_mpack_wire._terminal_text import terminal_line
from starfish_mpack_wire.cli._console import note, print_line
from starfish_mpack_wire.client._transport import check_url
from starfish_mpack_wire.errors import MPackError

__all__ = ("add_commands",)

Data = Annotated[Path, typer.Option("--data", help="The server's folder; made when it is missing.")]

repo_commands = typer.Typer(help="Repositories of a server.", no_args_is_help=True)
token_commands = typer.Typer(help="Tokens of a server.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.add_typer(repo_commands, name="repo")
    app.add_typer(token_commands, name="token")
    app.command()(serve)


@repo_commands.command("create")
def repo_create(
    name: Annotated[str, typer.Argument(metavar="OWNER/SLUG")],
    data: Data,
    private: Annotated[bool, typer.Option("--private", help="Only for its owner to read.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Make an empty repository."""
    from starfish_mpack_wire.server import create_repo

    repo = create_repo(data, name, private=private)
    note(f"{terminal_line(repo.owner)}/{terminal_line(repo.slug)} is there.")


@repo_commands.callback()
def _repo() -> None:
    """Repositories of a server."""


@token_commands.callback()
def _token() -> None:
    """Tokens of a server."""


@token_commands.command("create")
def token_create(
    owner: Annotated[str, typer.Option("--owner", help="Whose repositories it is for.")], data: Data
) -> None:
    """Make a token; it is printed last and cannot be shown again."""
    from starfish_mpack_wire.server import create_token

    token = create_token(data, owner)
    note("Clients send it when MPACK_TOKEN holds it.")
    print_line(token)


def serve(
    data: Data,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Beyond this machine, put TLS in front.")] = "127.0.0.1",
    public_url: Annotated[
        str | None, typer.Option(help="The address that clients use, behind a proxy.")
    ] = None,
) -> None:
    """Serve the repositories of a folder over HTTP until it is stopped; GET /health answers 200."""
    import uvicorn

    from starfish_mpack_wire.server import create_app, prepare_data

    if public_url is not None:
        public_url = check_url(public_url.rstrip("/"), "the address that clients use")
    # Uvicorn would show whatever is wrong with the folder or the address as a traceback.
    prepare_data(data)
    app = create_app(data, public_url=public_url)
    with _listener(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        note(f"Serving {terminal_line(str(data))} at http://{name}:{listener.getsockname()[1]}")
        config = uvicorn.Config(app, log_level="warning", server_header=False)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        # It names the address.
        raise MPackError(f"cannot listen: {error.strerror or error}") from error

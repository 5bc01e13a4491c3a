"""``repo create, token create, serve``: a server from a folder.

What only a server needs is imported when one of these is called: the other commands start faster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from starfish_mpack_wire._terminal_text import terminal_line
from starfish_mpack_wire.cli._console import note, print_line
from starfish_mpack_wire.client._transport import check_url

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
    from starfish_http.serve import run
    from starfish_mpack_wire.server import create_app, prepare_data

    if public_url is not None:
        public_url = check_url(public_url.rstrip("/"), "the address that clients use")
    prepare_data(data)

    def announce(url: str) -> None:
        note(f"Serving {terminal_line(str(data))} at {url}")

    status = run(
        lambda: create_app(data, public_url=public_url),
        host=host,
        port=port,
        name="mpack",
        announce=announce,
    )
    raise typer.Exit(status)

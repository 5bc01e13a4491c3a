"""``repo create, token create, serve``: a server from a folder.

What only a server needs is imported when one of these is called: the other commands start faster.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from starfish_mpack_wire._terminal_text import terminal_line
from starfish_mpack_wire.cli._console import note, print_json, print_line
from starfish_mpack_wire.cli._options import Json
from starfish_mpack_wire.client._transport import check_url
from starfish_protocol.clock import SystemClock

__all__ = ("add_commands",)

DAY_MS = 86_400_000

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
    owner: Annotated[str, typer.Option("--owner", help="Whose repositories it is for.")],
    data: Data,
    days: Annotated[
        int | None, typer.Option("--expires-days", min=1, help="Refuse it after so many days.")
    ] = None,
) -> None:
    """Make a token; it is printed last and cannot be shown again."""
    from starfish_mpack_wire.server import create_token

    expires_ms = None if days is None else SystemClock().now_ms() + days * DAY_MS
    token = create_token(data, owner, expires_ms=expires_ms)
    note("Clients send it when MPACK_TOKEN holds it.")
    print_line(token)


@token_commands.command("list")
def token_list(
    data: Data,
    owner: Annotated[str | None, typer.Option("--owner", help="Only those of this owner.")] = None,
    as_json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """List tokens by their names; the tokens themselves are not kept."""
    from starfish_mpack_wire.server import list_tokens

    found = list_tokens(data, owner)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    for each in found:
        end = "never" if each.expires_ms is None else _day_of(each.expires_ms)
        made = _day_of(each.created_ms)
        print_line(f"{each.name} {terminal_line(each.owner)} made {made}, expires {end}")


@token_commands.command("revoke")
def token_revoke(
    name: Annotated[str, typer.Argument(help="As token list shows it.")], data: Data
) -> None:
    """Remove a token; it is refused from the next request on."""
    from starfish_mpack_wire.server import revoke_token

    gone = revoke_token(data, name)
    note(f"Revoked {gone.name} of {terminal_line(gone.owner)}.")


def _day_of(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).date().isoformat()


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

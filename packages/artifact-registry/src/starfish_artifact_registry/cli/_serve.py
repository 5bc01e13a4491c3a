"""``serve`` and ``token``: the registry over HTTP."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer

from starfish_artifact_registry.cli._command import Session, command
from starfish_artifact_registry.cli._exit_status import ExitStatus

__all__ = ("add_serve_commands",)

_TokensFile = Annotated[
    Path | None,
    typer.Option("--tokens", metavar="FILE", help="Bearer tokens; see 'token'.", dir_okay=False),
]


def add_serve_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    command(app, "serve")(serve)
    command(app, "token")(token)


async def serve(
    session: Session,
    *,
    host: Annotated[str, typer.Option(help="Other than loopback needs --tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")] = 8000,
    tokens: _TokensFile = None,
    max_file_bytes: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Most bytes of one uploaded file; 16 GiB if not said."
        ),
    ] = None,
    drain: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="For requests in flight after SIGTERM.")
    ] = 30,
) -> None:
    """Serve the registry over HTTP until SIGTERM or Ctrl-C."""
    listener = _listen(host, port, is_open=tokens is None)
    with listener:
        from starfish_artifact_registry.cli._server import run_server

        def announce(url: str) -> None:
            session.output.result({"url": url}, f"listening on {url}")
            session.output.finish()

        async with session.registry() as registry:
            stopped_by = await run_server(
                registry,
                listener,
                tokens=tokens,
                max_file_bytes=max_file_bytes,
                drain_s=drain,
                on_ready=announce,
            )
    if stopped_by == signal.SIGINT:
        raise typer.Exit(ExitStatus.INTERRUPTED)


async def token(
    session: Session,
    holder: Annotated[str, typer.Argument(metavar="ACTOR", help="Whom the log will name.")],
    *,
    tokens: Annotated[
        Path, typer.Option("--tokens", metavar="FILE", help="Added to, or made.", dir_okay=False)
    ],
) -> None:
    """Make a bearer token and print it, this once; to revoke it, remove its line from the file."""
    from starfish_artifact_registry.http._token_file import TokenFile

    made = await asyncio.to_thread(TokenFile(tokens).add, holder)
    session.output.result({"actor": holder, "token": made}, made)


def _listen(host: str, port: int, *, is_open: bool) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise typer.BadParameter(f"--host {host!r} is not an address: {error.strerror}") from None
    if is_open and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise typer.BadParameter(
            f"--host {host} would let anybody on the network in; "
            "it must be a loopback address, or any with --tokens FILE"
        )
    return socket.create_server((str(address[0]), port), family=family, backlog=2048)

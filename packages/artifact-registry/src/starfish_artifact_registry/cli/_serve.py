"""``serve``, ``token`` and ``tokens``: the registry over HTTP, and who may come in."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from starfish_artifact_registry.cli._command import Session, command
from starfish_artifact_registry.cli._exit_status import ExitStatus
from starfish_protocol.clock import SystemClock

__all__ = ("add_serve_commands",)

_TokensFile = Annotated[
    Path | None,
    typer.Option("--tokens", metavar="FILE", help="Bearer tokens; see 'token'.", dir_okay=False),
]
_Tokens = Annotated[
    Path, typer.Option("--tokens", metavar="FILE", help="The file of tokens.", dir_okay=False)
]
_NEEDS = (
    "serving needs the extra cli: pip install --find-links dist 'starfish-artifact-registry[cli]'"
)


def add_serve_commands(app: typer.Typer) -> None:
    """Add them to the application."""
    command(app, "serve")(serve)
    command(app, "token")(token)
    group = typer.Typer(no_args_is_help=True, help="Tokens of a file: list and revoke them.")
    command(group, "list")(list_tokens)
    command(group, "revoke")(revoke_token)
    app.add_typer(group, name="tokens")


async def serve(
    session: Session,
    *,
    host: Annotated[str, typer.Option(help="Other than loopback needs --tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")] = 8002,
    tokens: _TokensFile = None,
    max_file_bytes: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Most bytes of one uploaded file; 16 GiB if not said."
        ),
    ] = None,
    drain: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="For requests in flight after SIGTERM.")
    ] = 10,
) -> None:
    """Serve the registry over HTTP until SIGTERM or Ctrl-C."""
    try:
        from starfish_artifact_registry.http import HttpLimits, anyone, create_registry_app
        from starfish_http.callers import TokenFile, create_token_role_resolver
        from starfish_http.serve import ListenError, ServeOptions, listen, serve_app, url_of
    except ImportError as error:
        if error.name is None or error.name.startswith("starfish_artifact_registry"):
            raise
        raise typer.BadParameter(_NEEDS) from None

    if tokens is None:
        _check_loopback(host)
        authenticate: Any = anyone
    else:
        file = TokenFile(tokens)
        await asyncio.to_thread(file.records)
        authenticate = create_token_role_resolver(file)
    limits = HttpLimits() if max_file_bytes is None else HttpLimits(max_file_bytes=max_file_bytes)
    try:
        listener = listen(host, port)
    except ListenError as error:
        raise typer.BadParameter(str(error)) from None
    url = url_of(listener)

    def announce() -> None:
        session.output.result({"url": url}, f"listening on {url}")
        session.output.finish()

    with listener:
        async with session.registry() as registry:
            stopped_by = await serve_app(
                create_registry_app(registry, authenticate=authenticate, limits=limits),
                listener,
                ServeOptions(drain_s=drain),
                on_ready=announce,
            )
    if stopped_by == signal.SIGINT:
        raise typer.Exit(ExitStatus.INTERRUPTED)


async def token(
    session: Session,
    holder: Annotated[str, typer.Argument(metavar="ACTOR", help="Whom the log will name.")],
    *,
    tokens: _Tokens,
    roles: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="read, write, hold, release, delete; repeatable. Without any: read and write.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What it is revoked by; the actor's name if not said.")
    ] = None,
    expires_days: Annotated[
        float | None,
        typer.Option(min=0, metavar="DAYS", help="From then on it is refused."),
    ] = None,
) -> None:
    """Make a bearer token and print it, this once; the file holds its hash."""
    from starfish_artifact_registry.http import ROLES
    from starfish_http.callers import TokenFile

    unknown = [role for role in roles or () if role not in ROLES]
    if unknown:
        raise typer.BadParameter(f"--role {unknown[0]!r}; it must be one of {', '.join(ROLES)}")
    expires_ms = None
    if expires_days is not None:
        expires_ms = SystemClock().now_ms() + timedelta(days=expires_days) // timedelta(
            milliseconds=1
        )

    def make() -> str:
        return TokenFile(tokens).create(holder, roles=roles or (), name=name, expires_ms=expires_ms)

    made = await asyncio.to_thread(make)
    session.output.result({"actor": holder, "token": made}, made)


async def list_tokens(session: Session, *, tokens: _Tokens) -> None:
    """List the tokens of a file, without their secrets."""
    from starfish_http.callers import TokenFile

    records = await asyncio.to_thread(lambda: TokenFile(tokens).records())
    rows = [
        {
            "name": record.name,
            "actor": record.identity,
            "roles": ",".join(record.roles) or "-",
            "expires": record.expires,
        }
        for record in records
    ]
    session.output.result(rows, session.output.rows(rows, ("name", "actor", "roles", "expires")))


async def revoke_token(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="See 'tokens list'.")],
    *,
    tokens: _Tokens,
) -> None:
    """Revoke a token: from the next request on it is refused."""
    from starfish_http.callers import TokenFile

    if not await asyncio.to_thread(lambda: TokenFile(tokens).revoke(name)):
        session.output.error("token_not_found", f"no token is named {name!r}")
        raise typer.Exit(ExitStatus.NOT_FOUND)
    session.output.result({"name": name}, f"revoked {name}")


def _check_loopback(host: str) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise typer.BadParameter(f"--host {host!r} is not an address: {error.strerror}") from None
    for *_, address in found:
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
            raise typer.BadParameter(
                f"--host {host} would let anybody on the network in; "
                "it must be a loopback address, or any with --tokens FILE"
            )

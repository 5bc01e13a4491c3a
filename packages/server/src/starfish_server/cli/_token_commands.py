"""``starfish-server tokens``: create, list and revoke bearer tokens."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from starfish_http.callers import TokenFile, TokenRecord
from starfish_protocol.clock import SystemClock
from starfish_server.cli._options import expiry
from starfish_server.cli._output import say, say_error, say_result, tell

__all__ = ("token_app",)

File = Annotated[Path, typer.Option("--tokens", metavar="FILE", help="Where tokens are kept.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def token_app() -> typer.Typer:
    """The commands below ``tokens``."""
    app = typer.Typer(help="Create, list and revoke bearer tokens.", no_args_is_help=False)
    app.command("create")(_create)
    app.command("list")(_list)
    app.command("revoke")(_revoke)
    return app


def _create(
    *,
    tokens: File,
    identity: Annotated[str, typer.Option(help="Name of the one who presents it.")],
    role: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="Role; may be repeated.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name to revoke it by; the identity when left out.")
    ] = None,
    expires: Annotated[
        int | None,
        typer.Option(parser=expiry, metavar="WHEN", help="'30d', '12h', or an ISO 8601 time."),
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Namespace it is good in; may be repeated."),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Documents it reaches, such as 'notes/*'."),
    ] = None,
    pubkey: Annotated[
        str | None, typer.Option(metavar="HEX", help="Ed25519 key that the presenter signs with.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a new token, once."""
    token = TokenFile(tokens).create(
        identity,
        roles=role or [],
        name=name,
        expires_ms=expires,
        pubkey=pubkey,
        namespaces=namespace,
        scope_paths=path,
    )
    say_result("tokens create", {"token": token}, token, as_json=as_json)
    if not as_json:
        tell("this is the only time the token is shown")


def _list(*, tokens: File, as_json: Json = False) -> None:
    """List tokens, without secrets."""
    records = TokenFile(tokens).records()
    if as_json:
        say(json.dumps([_public(record) for record in records], indent=2))
        return
    now = SystemClock().now_ms()
    for record in records:
        state = "expired" if record.is_expired(now) else "valid"
        say(
            f"{record.name}  identity={record.identity}  roles={','.join(record.roles) or '-'}  "
            f"created={_moment(record.created)}  expires={_moment(record.expires)}  {state}"
        )


def _revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the token.")],
    *,
    tokens: File,
    as_json: Json = False,
) -> None:
    """Remove a token."""
    if TokenFile(tokens).revoke(name):
        if as_json:
            say_result("tokens revoke", {"name": name}, "", as_json=True)
        return
    sentence = f"no token is named {name!r}; 'tokens list' shows the names"
    say_error("tokens revoke", "not_found", sentence, as_json=as_json)
    raise typer.Exit(3)


def _public(record: TokenRecord) -> dict[str, object]:
    return {name: value for name, value in asdict(record).items() if name != "hash"}


def _moment(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "never"
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")

"""What can be said on the command line."""

from __future__ import annotations

import argparse
import os
import re
from datetime import UTC, datetime
from importlib.metadata import version

from starfish_protocol.clock import SystemClock

__all__ = ("build_parser",)

_AGE = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="starfish-server", description="Document sync over HTTP.", allow_abbrev=False
    )
    parser.add_argument(
        "--version", action="version", version=f"starfish-server {version('starfish-server')}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve a configuration", allow_abbrev=False)
    _add_run_options(run)
    check = commands.add_parser(
        "check-config", help="list every problem of a configuration", allow_abbrev=False
    )
    check.add_argument("config", metavar="FILE", help="JSON, or TOML when it ends in .toml")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    tokens = commands.add_parser("tokens", help="create, list and revoke bearer tokens")
    _add_token_actions(tokens)
    return parser


def _add_run_options(run: argparse.ArgumentParser) -> None:
    default = " (default: %(default)s)"
    run.add_argument("--config", required=True, metavar="FILE", help="what to serve")
    run.add_argument("--data", metavar="DIR", help="folder of sqlite and filesystem")
    run.add_argument(
        "--store",
        choices=("sqlite", "filesystem", "postgres", "memory"),
        default="sqlite",
        help=f"where documents are kept{default}",
    )
    run.add_argument(
        "--dsn",
        metavar="URL",
        default=os.environ.get("STARFISH_DSN"),
        help="database of --store postgres (default: the variable STARFISH_DSN)",
    )
    run.add_argument("--tokens", metavar="FILE", help="bearer tokens; see 'tokens create'")
    run.add_argument(
        "--host", default="127.0.0.1", help=f"other than loopback needs --tokens{default}"
    )
    run.add_argument("--port", type=_port, default=8000, help=f"0 for any free one{default}")
    for option, kind, number, metavar, text in (
        ("--workers", _positive, 1, "N", "processes"),
        ("--trusted-proxy-hops", _count, 0, "N", "proxies whose X-Forwarded-For is believed"),
        ("--max-connections", _positive, 1000, "N", "of each process; more are answered 503"),
        ("--keep-alive", _positive, 30, "SECONDS", "an idle connection is kept"),
        ("--drain", _positive, 30, "SECONDS", "requests in flight may take after SIGTERM"),
    ):
        run.add_argument(
            option, type=kind, default=number, metavar=metavar, help=f"{text}{default}"
        )
    run.add_argument(
        "--config-endpoint",
        choices=("public", "role-filtered"),
        help="serve /config: every collection to anybody, or those a caller may use",
    )
    run.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        dest="cors_origins",
        metavar="ORIGIN",
        help="let pages of this origin in, beside 'cors' of the configuration; may be repeated",
    )
    for option, text in (
        ("--request-ids", "answer with X-Request-ID"),
        ("--metrics", "count requests and serve /metrics for Prometheus"),
        ("--tracing", "make an OpenTelemetry span of each request"),
        ("--access-log", "log every request"),
    ):
        run.add_argument(option, action="store_true", help=text)


def _add_token_actions(tokens: argparse.ArgumentParser) -> None:
    actions = tokens.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="print a new token once", allow_abbrev=False)
    create.add_argument("--identity", required=True, help="who will present it")
    create.add_argument(
        "--role", action="append", default=[], dest="roles", metavar="ROLE", help="may be repeated"
    )
    create.add_argument("--name", help="what to revoke it by; the identity when left out")
    create.add_argument(
        "--expires", type=_expiry, metavar="WHEN", help="'30d', '12h', or an ISO 8601 time"
    )
    create.add_argument(
        "--namespace",
        action="append",
        dest="namespaces",
        metavar="NAME",
        help="the token is good there only; may be repeated",
    )
    create.add_argument(
        "--path",
        action="append",
        dest="scope_paths",
        metavar="GLOB",
        help="documents that it reaches, such as 'notes/*'; may be repeated",
    )
    create.add_argument("--pubkey", metavar="HEX", help="Ed25519 key that the presenter signs with")
    listing = actions.add_parser("list", help="list tokens, without secrets", allow_abbrev=False)
    listing.add_argument("--json", action="store_true", help="print a JSON array")
    revoke = actions.add_parser("revoke", help="remove a token", allow_abbrev=False)
    revoke.add_argument("name", metavar="NAME")
    for action in (create, listing, revoke):
        action.add_argument("--tokens", required=True, metavar="FILE", help="where they are kept")


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text[:6]) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port; it must be 0 to 65535")


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 6:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a count; it must be 0 to 999999")


def _positive(text: str) -> int:
    number = _count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("0 is refused; it must be 1 to 999999")
    return number


def _expiry(text: str) -> int:
    """Milliseconds since the epoch."""
    age = _AGE.fullmatch(text)
    if age is not None:
        return SystemClock().now_ms() + int(age[1]) * _SECONDS[age[2]] * 1000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time; it must be '30d', '12h' or an ISO 8601 time"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)

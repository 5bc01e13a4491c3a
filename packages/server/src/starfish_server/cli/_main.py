"""From arguments to output and an exit status.

0: done; 1: refused, with the reasons on standard error; 2: the command line itself is wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from starfish_protocol.clock import SystemClock
from starfish_protocol.errors import StarfishError
from starfish_server.auth import TokenFile, TokenRecord
from starfish_server.cli._arguments import build_parser
from starfish_server.config._likely_mistakes import config_warnings
from starfish_server.config._loader import load_config
from starfish_server.errors import ConfigError

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; ``None`` for those of the process.

    Returns:
        The exit status: 0 done, 1 refused, 2 wrong usage.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name out of a file must not be what makes the message fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 2
    try:
        status = _COMMANDS[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away, as `head` does; the interpreter must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (StarfishError, ImportError) as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _run(options: argparse.Namespace) -> int:
    from starfish_server.cli._run import run

    return run(options)


def _check_config(options: argparse.Namespace) -> int:
    problems: list[str] = []
    warnings: list[str] = []
    collections = 0
    try:
        config = load_config(options.config)
    except ConfigError as error:
        problems = list(error.problems)
    else:
        warnings = config_warnings(config)
        namespaces = (config.namespaces or {}).values()
        collections = len(config.collections) + sum(len(each.collections) for each in namespaces)
    if options.json:
        _say(json.dumps({"ok": not problems, "problems": problems, "warnings": warnings}, indent=2))
    else:
        for problem in problems:
            _say(f"problem: {problem}")
        for warning in warnings:
            _say(f"warning: {warning}")
        if problems:
            _say(f"{options.config}: {len(problems)} problem(s)")
        else:
            _say(f"{options.config}: ok, {collections} collection(s), {len(warnings)} warning(s)")
    return 1 if problems else 0


def _tokens(options: argparse.Namespace) -> int:
    tokens = TokenFile(options.tokens)
    if options.action == "create":
        token = tokens.create(
            options.identity,
            roles=options.roles,
            name=options.name,
            expires_ms=options.expires,
            pubkey=options.pubkey,
            namespaces=options.namespaces,
            scope_paths=options.scope_paths,
        )
        _say(token)
        _complain("this is the only time the token is shown")
        return 0
    if options.action == "revoke":
        if tokens.revoke(options.name):
            return 0
        _complain(f"no token is named {options.name!r}; 'tokens list' shows the names")
        return 1
    records = tokens.records()
    if options.json:
        _say(json.dumps([_public(record) for record in records], indent=2))
    else:
        now = SystemClock().now_ms()
        for record in records:
            state = "expired" if record.is_expired(now) else "valid"
            _say(
                f"{record.name}  identity={record.identity}  roles={','.join(record.roles) or '-'}  "
                f"created={_moment(record.created)}  expires={_moment(record.expires)}  {state}"
            )
    return 0


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


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"starfish-server: {line}\n")


_COMMANDS = {"run": _run, "check-config": _check_config, "tokens": _tokens}

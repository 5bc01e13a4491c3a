"""``starfish-server check-config``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from starfish_server.cli._output import say

__all__ = ("check_config",)


def check_config(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON, or TOML: a name in .toml.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List every problem of a configuration."""
    from starfish_server.config._likely_mistakes import config_warnings
    from starfish_server.config._loader import load_config
    from starfish_server.errors import ConfigError

    problems: list[str] = []
    warnings: list[str] = []
    collections = 0
    try:
        config = load_config(file)
    except ConfigError as error:
        problems = list(error.problems)
    else:
        warnings = config_warnings(config)
        namespaces = (config.namespaces or {}).values()
        collections = len(config.collections) + sum(len(each.collections) for each in namespaces)
    if as_json:
        say(json.dumps({"ok": not problems, "problems": problems, "warnings": warnings}, indent=2))
    else:
        for problem in problems:
            say(f"problem: {problem}")
        for warning in warnings:
            say(f"warning: {warning}")
        if problems:
            say(f"{file}: {len(problems)} problem(s)")
        else:
            say(f"{file}: ok, {collections} collection(s), {len(warnings)} warning(s)")
    raise typer.Exit(1 if problems else 0)

"""Where a command's words go: results to standard output, everything else to standard error.

Rule: with ``--json`` standard output holds JSON objects and nothing else: a result as
``{"ok": true, "command": …, "result": …}``, a failure as ``{"ok": false, "command": …, "error":
{"error": code, "message": …}}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

__all__ = ("progress", "say", "say_error", "say_result", "tell")


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{text}\n")


def tell(text: str) -> None:
    """Tell people something beside the result."""
    for line in text.splitlines():
        sys.stderr.write(f"starfish-server: {line}\n")


def say_result(command: str, result: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Say the outcome: the value to programs, the text to people."""
    if as_json:
        say(json.dumps({"ok": True, "command": command, "result": result}))
    else:
        say(text)


def say_error(command: str | None, code: str, message: str, *, as_json: bool) -> None:
    """Say why nothing was done."""
    if as_json:
        error = {"error": code, "message": message}
        say(json.dumps({"ok": False, "command": command, "error": error}))
    else:
        tell(message)


@contextmanager
def progress(label: str, *, as_json: bool) -> Generator[Callable[[int, int | None], None]]:
    """Count on standard error while the body runs, where somebody watches a terminal."""
    if as_json or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)

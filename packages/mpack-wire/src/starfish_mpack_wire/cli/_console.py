"""What the command prints: results on standard output, the rest on standard error.

Rule: nothing that came from a peer or a history is printed without `terminal_line` or `terminal_text`.
JSON needs neither: its escapes are not controls.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from starfish_mpack_wire.client._progress import OnProgress
from starfish_mpack_wire.client._progress import Progress as Step

__all__ = ("count_bar", "note", "print_json", "print_line", "progress_bars")

STAGE_WORDS = {
    "download": "Downloading",
    "apply": "Verifying",
    "build": "Packing",
    "upload": "Uploading",
    "checkout": "Writing files",
}


def print_line(text: str) -> None:
    """A result; the caller has made it safe to print."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Something to know beside the result; the caller has made it safe to print."""
    sys.stderr.write(text + "\n")


def print_json(value: Any) -> None:
    """A result for programs: one document, with all but ASCII escaped."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


@contextmanager
def progress_bars() -> Generator[OnProgress | None]:
    """Bars on a terminal; nothing where nobody watches."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(step: Step) -> None:
            if step.stage not in tasks:
                tasks[step.stage] = bars.add_task(STAGE_WORDS[step.stage], total=None)
            bars.update(tasks[step.stage], completed=step.done, total=step.total or None)

        yield show


def count_bar(show: OnProgress | None) -> Callable[[int, int], None] | None:
    """The bar of files that are written."""
    if show is None:
        return None
    return lambda done, total: show(Step("checkout", done, total))

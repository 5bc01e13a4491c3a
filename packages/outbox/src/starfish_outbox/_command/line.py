# ruff: noqa: T201 - a command prints
"""Arguments, exit statuses and errors of the command line."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from starfish_disk.errors import BusyError
from starfish_outbox._command.commands import (
    CONFLICT,
    INTERRUPTED,
    NOT_FOUND,
    REFUSED,
    UNAVAILABLE,
    export,
    inspect,
    recover,
    remove,
    retry,
    vacuum,
)
from starfish_outbox._command.content import NotThereError, ThereAlreadyError
from starfish_outbox.errors import OutboxError

COMMANDS = (
    ("inspect", inspect, "show the entries and why they wait, not what they hold"),
    ("retry", retry, "queue failed entries again; stop the application of a value file first"),
    ("export", export, "write a queue as a JSON array; the file is not changed"),
    ("remove", remove, "forget one entry, whatever its status"),
    ("recover", recover, "copy every entry that can be read into a new file"),
    ("vacuum", vacuum, "give unused space back to the file system"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the name of the program; by default those of this process.

    Returns:
        The exit status: 0 done, 1 the file was refused or is damaged, 2 wrong usage, 3 not found,
        4 a file to be made is there already, 5 another process holds the file, 130 interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(Path(options.file), options))
    except (OutboxError, ValueError) as error:
        if options.json:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        print(f"starfish_outbox: {error}", file=sys.stderr)
        return _status_of(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED


def _status_of(error: Exception) -> int:
    if isinstance(error, NotThereError):
        return NOT_FOUND
    if isinstance(error, ThereAlreadyError):
        return CONFLICT
    cause = error.__cause__
    is_busy = isinstance(cause, BusyError) or (
        isinstance(cause, sqlite3.OperationalError)
        and cause.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    )
    return UNAVAILABLE if is_busy else REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="starfish-outbox", description="Look into an outbox, and put it right."
    )
    parser.add_argument("--version", action="version", version=version("starfish-outbox"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, help_text in COMMANDS:
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.add_argument("file", metavar="FILE", help="a SQLite outbox or a FileCache's file")
        command.add_argument("--json", action="store_true", help="for programs, errors too")
        command.set_defaults(run=run)
        if name not in {"recover", "vacuum"}:
            command.add_argument("--key", help="only this queue")
        if name == "retry":
            command.add_argument("--id", help="only this entry")
        if name == "remove":
            command.add_argument("--id", required=True, help="the entry")
        if name == "recover":
            command.add_argument("target", metavar="NEW", help="the file to make")
    return parser

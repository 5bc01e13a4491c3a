"""From arguments to output and an exit status; everything else is imported when it is needed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from starfish_server.cli._output import say_error

__all__ = ("main",)

_MISSING = (
    "starfish-server needs the extra cli: "
    'pip install --find-links dist "starfish-server[cli]" (the extra serve holds it too)'
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; ``None`` for those of the process.

    Returns:
        The exit status: 0 done, 1 refused, 2 wrong usage, 3 not found, 4 conflict, 5 unavailable,
        130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    for stream in (sys.stdout, sys.stderr):
        # A name out of a file must not be what makes the message fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        import typer

        from starfish_server.cli._app import build_app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        say_error(None, "missing_extra", _MISSING, as_json=as_json)
        return 1
    try:
        status = _run(build_app(), given, as_json=as_json)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away, as `head` does; the interpreter must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    return status


def _run(app: Any, given: list[str], *, as_json: bool) -> int:
    from starfish_disk.errors import DiskError
    from starfish_protocol.errors import StarfishError
    from starfish_server.cli._failures import ExitStatus, status_and_code

    try:
        status = app(given, prog_name="starfish-server", standalone_mode=False)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except (StarfishError, DiskError, OSError, ImportError) as error:
        found, code = status_and_code(error)
        say_error(_command_of(given), code, str(error), as_json=as_json)
        return int(found)
    except Exception as error:
        # The errors of the command line parser, whichever library brings them.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        if as_json:
            say_error(_command_of(given), "usage", format_message(), as_json=True)
        else:
            error.show()  # type: ignore[attr-defined]
        return int(ExitStatus.USAGE)
    return status if isinstance(status, int) else 0


def _command_of(given: Sequence[str]) -> str | None:
    return next((each for each in given if not each.startswith("-")), None)

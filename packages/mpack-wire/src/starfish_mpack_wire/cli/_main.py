"""``mpack``: puts the groups of commands together, and turns errors into messages."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from starfish_mpack_wire import __version__
from starfish_mpack_wire._terminal_text import terminal_text
from starfish_mpack_wire.cli import _bundle, _changes, _git, _server, _store, _sync, _work
from starfish_mpack_wire.cli._console import note, print_json, print_line
from starfish_mpack_wire.errors import (
    LocalChangesError,
    MPackError,
    NonFastForwardError,
    ObjectNotFoundError,
    RefConflictError,
    RemoteNotFoundError,
    RemoteUnavailableError,
)

__all__ = ("app", "main")

REFUSALS: dict[type[MPackError], tuple[int, str]] = {
    MPackError: (1, "refused"),
    ObjectNotFoundError: (3, "not_found"),
    RemoteNotFoundError: (3, "not_found"),
    RefConflictError: (4, "ref_conflict"),
    NonFastForwardError: (4, "non_fast_forward"),
    LocalChangesError: (4, "local_changes"),
    RemoteUnavailableError: (5, "unavailable"),
}
"""Exit status and code of each kind of refusal."""
INTERRUPTED = 130
"""What shells report for a command that Ctrl-C ended."""

app = typer.Typer(
    name="mpack",
    help="Keep the history of a folder, and move it between machines as one verified pack.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (_work, _changes, _sync, _bundle, _store, _git, _server):
    group.add_commands(app)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it
    if wanted:
        print_line(f"mpack {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Options that stand before a command."""


def main() -> None:
    """Run the command of this process; exit status 0, or a message and another one.

    2 says that the command line is wrong, 3 that something named in it is not there, 4 a conflict, 5 that a server or
    its storage cannot be reached, 130 Ctrl-C, 1 every other refusal.
    """
    try:
        app(standalone_mode=True)
    except MPackError as error:
        status, code = next(REFUSALS[cls] for cls in type(error).__mro__ if cls in REFUSALS)
        _refuse(status, code, str(error))
    except KeyboardInterrupt:
        note("mpack: interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has enough; the interpreter must not flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _refuse(1, "refused", f"{place}{error.strerror or error}")


def _refuse(status: int, code: str, detail: str) -> NoReturn:
    """Tell a person, and a program that asked for JSON, why nothing was done."""
    note(f"mpack: {terminal_text(detail)}")
    if "--json" in sys.argv:
        print_json({"error": code, "detail": detail})
    sys.exit(status)

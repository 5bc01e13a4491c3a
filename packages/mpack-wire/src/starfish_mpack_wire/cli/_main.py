"""``mpack``: puts the groups of commands together, and turns errors into messages."""

from __future__ import annotations

import os
import sys

import typer

from starfish_mpack_wire._terminal_text import terminal_text
from starfish_mpack_wire.cli import _bundle, _git, _server, _store, _sync, _work
from starfish_mpack_wire.cli._console import note
from starfish_mpack_wire.errors import MPackError

__all__ = ("app", "main")

INTERRUPTED = 130
"""What shells report for a command that Ctrl-C ended."""

app = typer.Typer(
    name="mpack",
    help="Keep the history of a folder, and move it between machines as one verified pack.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for group in (_work, _sync, _bundle, _store, _git, _server):
    group.add_commands(app)


def main() -> None:
    """Run the command of this process; exit status 0, or a message and another one."""
    try:
        app(standalone_mode=True)
    except MPackError as error:
        note(f"mpack: {terminal_text(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        note("mpack: interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has enough; the interpreter must not flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        note(f"mpack: {terminal_text(f'{place}{error.strerror or error}')}")
        sys.exit(1)

"""Where a command's words go: results to standard output, everything else to standard error.

Rule 1: with ``--json`` standard output holds JSON objects, one a line, and nothing else: each
result as ``{"ok": true, "command": …, "result": …}``, a failure as ``{"ok": false, "command": …,
"error": {"error": code, "message": …}}``. Rule 2: text that somebody else chose goes through
`printable`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from starfish_artifact_registry.cli._terminal_text import printable

__all__ = ("Output",)


class Output:
    """What one command says."""

    def __init__(self, command: str, *, as_json: bool) -> None:
        self._command = command
        self.as_json = as_json
        """Whether a program reads it."""

    def result(self, result: Any, text: str) -> None:
        """Say the outcome: the value to programs, the text to people."""
        if self.as_json:
            self._write({"ok": True, "command": self._command, "result": result})
        elif text:
            sys.stdout.write(f"{text}\n")

    def rows(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
        """Lines of aligned columns for people; the last column is not padded."""
        cells = [[printable(str(row[column])) for column in columns] for row in rows]
        widths = [max((len(line[at]) for line in cells), default=0) for at in range(len(columns))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in cells
        )

    def failed_check(self, result: Any, text: str) -> None:
        """Say what a check found wrong."""
        if self.as_json:
            self._write({"ok": False, "command": self._command, "result": result})
        else:
            sys.stdout.write(f"{text}\n")

    def error(self, code: str, message: str, facts: Mapping[str, Any] | None = None) -> None:
        """Say why nothing was done."""
        if self.as_json:
            error = {"error": code, "message": message, **(facts or {})}
            self._write({"ok": False, "command": self._command, "error": error})
        else:
            self.note(message)

    def note(self, text: str) -> None:
        """Tell something beside the result, on standard error."""
        for line in text.splitlines():
            sys.stderr.write(f"artifact-registry: {printable(line)}\n")

    def content(self, chunk: bytes) -> None:
        """Write bytes of a file or a manifest as they are."""
        sys.stdout.buffer.write(chunk)

    @staticmethod
    def finish() -> None:
        """Write the buffer.

        Raises:
            BrokenPipeError: the reader has gone.
        """
        sys.stdout.flush()

    @staticmethod
    def reader_has_gone() -> None:
        """Let the interpreter end in peace: what it flushes at exit goes nowhere."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _write(self, line: Mapping[str, Any]) -> None:
        # ASCII only: a terminal shows it as it is, whatever names are in it.
        sys.stdout.write(f"{json.dumps(line, default=str)}\n")
        if self._command == "tail":
            sys.stdout.flush()

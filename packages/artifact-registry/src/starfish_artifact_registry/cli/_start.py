"""Where the process begins: before anything of the extra ``cli`` is imported."""

from __future__ import annotations

import json
import sys

__all__ = ("main",)


def main() -> None:
    """Run the command that the process was started with, and exit."""
    try:
        _main(as_json="--json" in sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("artifact-registry: interrupted; 0 changes were made\n")
        sys.exit(130)


def _main(*, as_json: bool) -> None:
    try:
        import typer

        from starfish_artifact_registry.cli._main import build_app
    except ImportError as error:
        if error.name is None or error.name.startswith("starfish_artifact_registry"):
            raise
        sentence = (
            "artifact-registry needs the extra cli: "
            "pip install --find-links dist 'starfish-artifact-registry[cli]'"
        )
        if as_json:
            _say_json("missing_extra", sentence)
            sys.exit(5)
        sys.exit(sentence)
    if not as_json:
        build_app()()
        return
    try:
        status = build_app()(standalone_mode=False)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        # The errors of the command line parser, whichever library brings them.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        _say_json("usage", format_message())
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _say_json(code: str, sentence: str) -> None:
    error = {"error": code, "message": sentence}
    sys.stdout.write(json.dumps({"ok": False, "command": None, "error": error}) + "\n")

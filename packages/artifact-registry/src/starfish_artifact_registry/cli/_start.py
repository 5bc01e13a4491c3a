"""Where the process begins: before anything of the extra ``cli`` is imported."""

from __future__ import annotations

import sys

__all__ = ("main",)


def main() -> None:
    """Run the command that the process was started with, and exit."""
    try:
        from starfish_artifact_registry.cli._main import build_app
    except ImportError as error:
        if error.name is None or error.name.startswith("starfish_"):
            raise
        sys.exit(
            "artifact-registry needs the extra cli: pip install 'starfish-artifact-registry[cli]'"
        )
    build_app()()

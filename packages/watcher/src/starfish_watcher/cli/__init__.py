"""The ``starfish-watcher`` command; needs the extra ``cli``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ("main",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 refused, 2 usage, 3 not found, 4 conflict, 5 unavailable, 130 interrupted."""
    try:
        from starfish_watcher.cli import _main
    except ImportError as error:
        if error.name is not None and error.name.startswith("starfish_watcher"):
            raise
        sys.stderr.write(
            "starfish-watcher: the command needs the extra cli: "
            'pip install --find-links dist "starfish-watcher[cli]"\n'
        )
        return 1
    return _main.run(arguments)

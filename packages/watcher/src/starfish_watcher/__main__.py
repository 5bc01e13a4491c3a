"""``python -m starfish_watcher``: the command line, also installed as ``starfish-watcher``."""

from __future__ import annotations

import sys

from starfish_watcher.cli import main

__all__ = ("main",)

if __name__ == "__main__":
    sys.exit(main())

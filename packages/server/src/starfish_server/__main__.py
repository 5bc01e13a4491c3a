"""``python -m starfish_server``, the same as ``starfish-server``."""

import sys

from starfish_server.cli import main

__all__ = ("main",)

if __name__ == "__main__":
    sys.exit(main())

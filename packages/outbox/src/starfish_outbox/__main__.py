"""``python -m starfish_outbox``: the command line, also installed as ``starfish-outbox``."""

from __future__ import annotations

import sys

from starfish_outbox._command.line import main

__all__ = ("main",)

if __name__ == "__main__":
    sys.exit(main())

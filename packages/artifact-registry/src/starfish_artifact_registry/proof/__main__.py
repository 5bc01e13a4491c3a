"""``python -m starfish_artifact_registry.proof``."""

import sys

from starfish_artifact_registry.proof._command import main

__all__ = ("main",)

if __name__ == "__main__":
    sys.exit(main())

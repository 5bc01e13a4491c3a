"""``python -m starfish_artifact_registry``, the same as ``artifact-registry``."""

from starfish_artifact_registry.cli import main

__all__ = ("main",)

if __name__ == "__main__":
    main()

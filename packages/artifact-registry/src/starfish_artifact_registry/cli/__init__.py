"""The command line, ``artifact-registry``."""

from starfish_artifact_registry.cli._main import main

__all__ = ("main",)

"""The command line, ``artifact-registry``; needs the extra ``cli``."""

from starfish_artifact_registry.cli._start import main

__all__ = ("main",)

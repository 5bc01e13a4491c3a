"""The command line, ``starfish-server``; needs the extra ``cli``."""

from starfish_server.cli._main import main

__all__ = ("main",)

"""The command line: ``starfish-server run | check-config | tokens``."""

from starfish_server.cli._main import main

__all__ = ("main",)

"""The ``mpack`` command; needs the extra ``cli``."""

from starfish_mpack_wire.cli._main import main

__all__ = ("main",)

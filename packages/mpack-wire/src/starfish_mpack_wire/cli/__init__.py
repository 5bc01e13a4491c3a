"""The ``mpack`` command; needs the extra ``cli``."""

import sys

__all__ = ("main",)


def main() -> None:
    """Run the command of this process; exit status 0, or a message and another one."""
    try:
        from starfish_mpack_wire.cli import _main
    except ImportError as error:
        if error.name is not None and error.name.startswith("starfish_mpack_wire"):
            raise
        sys.stderr.write(
            "mpack: the command needs the extra cli: "
            'pip install --find-links dist "starfish-mpack-wire[cli]"\n'
        )
        sys.exit(1)
    _main.main()

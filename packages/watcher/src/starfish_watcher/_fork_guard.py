"""Refuse what a child process inherited: its threads are not there, and its locks may be held."""

from __future__ import annotations

import os
from typing import Final

from starfish_watcher.errors import StoreClosed

__all__ = ("ForkGuard",)

_current: Final[list[int]] = [os.getpid()]


def _forked() -> None:
    _current[0] = os.getpid()


os.register_at_fork(after_in_child=_forked)


class ForkGuard:
    """Remembers in which process it was made; asking costs no system call."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = _current[0]

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one that made it."""
        return self._pid != _current[0]

    def check(self) -> None:
        """Return in the process that made it.

        Raises:
            StoreClosed: this is a child of that process.
        """
        if self._pid != _current[0]:
            msg = f"it was opened in process {self._pid}; open it again after a fork"
            raise StoreClosed(msg)

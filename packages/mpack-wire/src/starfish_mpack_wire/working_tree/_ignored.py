"""Which files of a folder are not the history's business: the patterns of ``.mpackignore``.

One pattern a line, as a shell writes them (``*``, ``?``, ``[…]``); ``#`` begins a comment. A pattern with a
slash names a path from the root, one without names a file or folder at any depth. A file that the
current commit holds is never ignored.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ("IGNORE_FILE", "IgnorePatterns")

IGNORE_FILE = ".mpackignore"


@dataclass(frozen=True, slots=True)
class IgnorePatterns:
    """The patterns of one file."""

    names: re.Pattern[str] | None
    """Matches the last part of a path."""
    paths: re.Pattern[str] | None
    """Matches a whole path."""

    @classmethod
    def parse(cls, text: str) -> IgnorePatterns:
        r"""Read the lines of an ignore file.

        Examples:
            >>> patterns = IgnorePatterns.parse("*.pyc\n/build/\n# no code\n")
            >>> patterns.match("a/b.pyc"), patterns.match("build"), patterns.match("a/build")
            (True, True, False)
        """
        lines = [line.strip() for line in text.splitlines()]
        patterns = [line for line in lines if line and not line.startswith("#")]
        names = [each.rstrip("/") for each in patterns if "/" not in each.rstrip("/")]
        paths = [each.strip("/") for each in patterns if "/" in each.rstrip("/")]
        return cls(_any_of(names), _any_of(paths))

    def match(self, path: str) -> bool:
        """Whether a path, relative and with slashes, is ignored with everything below it."""
        name = path.rpartition("/")[2]
        return bool(
            (self.names and self.names.match(name)) or (self.paths and self.paths.match(path))
        )


def _any_of(patterns: Iterable[str]) -> re.Pattern[str] | None:
    expressions = [fnmatch.translate(pattern) for pattern in patterns]
    return re.compile("|".join(expressions)) if expressions else None

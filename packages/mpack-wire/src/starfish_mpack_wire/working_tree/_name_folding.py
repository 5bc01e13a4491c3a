"""What a file system makes of names: some take ``A`` and ``a``, or two spellings of ``é``, for one file.

There a snapshot that holds both cannot be checked out, and a path may reach the store's own folder under
another spelling.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ("STORE_FOLDER", "NameFolding", "is_store_folder_name")

STORE_FOLDER = ".mpack"
RESERVED = frozenset({STORE_FOLDER, "mpack~1", ".git", "git~1"})
"""Folders of stores, git's too, and what file systems with names of 8 and 3 characters call them."""
IGNORABLE = dict.fromkeys(
    [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF, 0xAD]
)
"""Characters that some file systems drop from names."""


def is_store_folder_name(part: str) -> bool:
    """Whether some file system would take this part of a path for the folder of a store.

    Git's counts as one: a writer there could have programs of its own run.

    Examples:
        >>> is_store_folder_name(".MPack"), is_store_folder_name(".mpack. "), is_store_folder_name("mpack")
        (True, True, False)
    """
    folded = unicodedata.normalize("NFKC", part).translate(IGNORABLE).casefold().rstrip(". ")
    folded = folded.partition(":")[0]
    return folded in RESERVED


@dataclass(frozen=True, slots=True)
class NameFolding:
    """How the file system of a folder compares names."""

    case: bool = False
    """``A`` and ``a`` are one file."""
    normalization: bool = False
    """One letter and its decomposed spelling are one file."""

    @classmethod
    def probe(cls, folder: Path) -> NameFolding:
        """Try it out with a file in ``folder``, which is removed again.

        Raises:
            OSError: no file can be made there.
        """
        token = secrets.token_hex(6)
        composed = folder / f"probe-{token}-\u00e9"
        descriptor = os.open(composed, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC)
        os.close(descriptor)
        try:
            return cls(
                case=(folder / f"PROBE-{token.upper()}-\u00c9").exists(),
                normalization=(folder / f"probe-{token}-e\u0301").exists(),
            )
        finally:
            composed.unlink()

    def key(self, path: str) -> str:
        """What two paths have in common that are one file here."""
        if self.normalization:
            path = unicodedata.normalize("NFD", path)
        if self.case:
            path = path.casefold()
            if self.normalization:
                path = unicodedata.normalize("NFD", path)
        return path

    def collisions(self, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Pairs of files or folders, among these paths and those above them, that would be one here.

        Examples:
            >>> list(NameFolding(case=True).collisions(["src/a", "SRC/b"]))
            [('src', 'SRC')]
        """
        if not (self.case or self.normalization):
            return
        seen: dict[str, str] = {}
        for path in paths:
            end = 0
            while end >= 0:
                end = path.find("/", end + 1)
                spelled = path if end < 0 else path[:end]
                first = seen.setdefault(self.key(spelled), spelled)
                if first != spelled:
                    yield first, spelled

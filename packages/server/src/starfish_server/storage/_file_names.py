"""Keys as paths, and paths as keys.

An ordinary key is found where one looks for it: ``notes/ada/shopping`` is the file
``notes.d/ada.d/shopping``. Rule 1: no two keys share a path, and no key's file is another's
folder, hence ``.d``. Rule 2: a name that this module does not make belongs to no key; a listing passes
it over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ("FOLDER_SUFFIX", "FileNames", "is_continued")

FOLDER_SUFFIX = ".d"
"""Ends the name of every folder of keys, and of no file."""
_MAX_NAME = 200
"""Bytes of a name before it is continued in a folder; most file systems hold 255."""
_CONTINUED = "%"
"""Ends the name of that folder; an escape has two digits after it."""
_UPPER = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_KEPT = _UPPER | frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._:@-+=,")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)", re.IGNORECASE)
_ESCAPED = re.compile(rb"%([0-9A-F]{2})")


class FileNames:
    """How the segments of keys are written as names in one base folder.

    Args:
        escape_case: for a file system on which ``Ada`` and ``ada`` are one name.

    Examples:
        >>> names = FileNames(escape_case=False)
        >>> names.of_key("notes/ada/shopping")
        (['notes.d', 'ada.d'], 'shopping')
        >>> names.of_key(".hidden/50%")
        (['%2Ehidden.d'], '50%25')
        >>> FileNames(escape_case=True).of_key("Ada")
        ([], '%41da')
    """

    def __init__(self, *, escape_case: bool) -> None:
        self._kept = _KEPT - _UPPER if escape_case else _KEPT

    def of_key(self, key: str) -> tuple[list[str], str]:
        """The folders and the file of a legal key, below the base folder."""
        *segments, last = key.split("/")
        *chunks, file_name = _chunks(self._file_name(last))
        return [*self.of_folders(segments), *chunks], file_name

    def of_folders(self, segments: Sequence[str]) -> list[str]:
        """The folders that hold the keys below some segments."""
        return [
            chunk
            for segment in segments
            for chunk in _chunks(self._escape(segment) + FOLDER_SUFFIX)
        ]

    def segment(self, name: str, *, is_folder: bool) -> str | None:
        """The segment that a name stands for, its chunks joined; ``None`` when for none.

        Examples:
            >>> FileNames(escape_case=False).segment("ada.d", is_folder=True)
            'ada'
            >>> FileNames(escape_case=False).segment("notes~", is_folder=False) is None
            True
        """
        escaped = name.removesuffix(FOLDER_SUFFIX) if is_folder else name
        raw = _ESCAPED.sub(
            lambda found: bytes([int(found[1], 16)]), escaped.encode(errors="replace")
        )
        segment = raw.decode(errors="replace")
        if not segment or "/" in segment:
            return None
        made = self._escape(segment) + FOLDER_SUFFIX if is_folder else self._file_name(segment)
        return segment if made == name else None

    def _file_name(self, segment: str) -> str:
        name = self._escape(segment)
        return f"{name[:-2]}%2Ed" if name.endswith(FOLDER_SUFFIX) else name

    def _escape(self, segment: str) -> str:
        kept = self._kept
        name = "".join(chr(byte) if byte in kept else f"%{byte:02X}" for byte in segment.encode())
        # Hidden names are the store's own; Windows has devices, and drops a dot at the end.
        if name[0] == "." or _DEVICE.match(name):
            name = f"%{ord(name[0]):02X}{name[1:]}"
        return f"{name[:-1]}%2E" if name[-1] == "." else name


def is_continued(name: str) -> bool:
    """Whether a name is the beginning of a longer one, with its mark."""
    return len(name) == _MAX_NAME + 1 and name.endswith(_CONTINUED)


def _chunks(name: str) -> list[str]:
    chunks: list[str] = []
    while len(name) > _MAX_NAME:
        chunks.append(name[:_MAX_NAME] + _CONTINUED)
        name = name[_MAX_NAME:]
    return [*chunks, name]

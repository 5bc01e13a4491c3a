"""Heads of the tree as transparency logs publish them (C2SP ``tlog-checkpoint``).

The text of a signed note: the origin, the number of events, the root in base64, a line each.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, Self

from starfish_artifact_registry.errors import CheckpointError
from starfish_artifact_registry.model._merkle import HASH_SIZE

__all__ = ("TreeHead",)

_ORIGIN: Final = re.compile(r"[^\s+]{1,255}")
_SIZE: Final = re.compile("0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class TreeHead:
    """How far a log had grown.

    Examples:
        >>> head = TreeHead("example.org/log", 3, bytes(32))
        >>> TreeHead.parse(head.text()) == head
        True
    """

    origin: str
    """Name of the log, the same as of the key that signs it."""
    size: int
    """Events of the log."""
    root_hash: bytes
    """Root of their Merkle tree, 32 bytes (RFC 9162, SHA-256)."""
    extensions: tuple[str, ...] = ()
    """Further lines; of other logs, kept as they are."""

    def text(self) -> str:
        """The text of the note."""
        root = base64.b64encode(self.root_hash).decode()
        lines = (self.origin, str(self.size), root, *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note.

        Raises:
            CheckpointError: it is not a head of a tree.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or "" in lines[:-1]:
            raise CheckpointError("a head of a tree has an origin, a size and a root, a line each")
        origin, size, encoded, *extensions = lines[:-1]
        try:
            root = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            root = b""
        if _ORIGIN.fullmatch(origin) is None or _SIZE.fullmatch(size) is None:
            raise CheckpointError(f"{origin!r:.80} and {size!r:.40} are not an origin and a size")
        if len(root) != HASH_SIZE or base64.b64encode(root).decode() != encoded:
            raise CheckpointError(f"{encoded!r:.80} is not the base64 of a root of 32 bytes")
        return cls(origin, int(size), root, tuple(extensions))

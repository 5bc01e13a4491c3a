"""A file of hashed bearer tokens: an authenticator for a service without a directory of its own.

One line a token: the SHA-256 of the token in 64 lowercase hex digits, a space, the actor. Empty
lines and lines that begin with ``#`` are skipped. Tokens have 256 random bits, so a plain hash of
one cannot be turned back, and a lookup by hash tells nothing by the time it takes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
from pathlib import Path

from starfish_artifact_registry.errors import InvalidValueError

__all__ = ("TokenFile",)

_LINE = re.compile(r"([0-9a-f]{64}) ([\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?)")
_PREFIX = "sar_"


class TokenFile:
    """The actors that may come in, by their tokens; read anew when the file has changed.

    Args:
        path: where it is; only its owner should be able to read it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._actors: dict[str, str] = {}

    def add(self, actor: str) -> str:
        """Make a token for an actor; on disk, hashed, when this returns.

        Returns:
            The token, which is nowhere kept.

        Raises:
            InvalidValueError: the actor is not 1 to 200 printable ASCII characters.
            OSError: the file cannot be written.
        """
        token = _PREFIX + secrets.token_urlsafe(32)
        line = f"{_hash(token)} {actor}"
        if _LINE.fullmatch(line) is None:
            raise InvalidValueError("actor", actor, "1 to 200 printable ASCII characters")
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return token

    def read(self) -> None:
        """Read the file if it has changed.

        Raises:
            InvalidValueError: a line is not legal; its number is named.
            OSError: the file cannot be read.
        """
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp == self._stamp:
            return
        actors: dict[str, str] = {}
        for number, line in enumerate(self._path.read_text("ascii", "replace").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line.strip())
            if found is None:
                raise InvalidValueError(
                    f"line {number} of {self._path}", "…", "'<64 hex digits> <actor>'"
                )
            actors[found[1]] = found[2]
        self._stamp, self._actors = stamp, actors

    async def authenticate(self, token: str) -> str | None:
        """The actor of a token; what `create_registry_router` takes as ``authenticate``.

        Raises:
            InvalidValueError: the file is damaged.
            OSError: the file is gone.
        """
        await asyncio.to_thread(self.read)
        return self._actors.get(_hash(token))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

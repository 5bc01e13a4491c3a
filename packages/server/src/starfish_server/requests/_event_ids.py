"""Positions of a change log as clients get them: sealed, so that nothing can be read from them.

A position counts the writes of every tenant of the store. Sealed with a key of the store it is a
text of one length that is another one each time; a client can only give it back.
"""

from __future__ import annotations

import base64
import binascii
import os
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from starfish_server.documents._store_secret import StoreSecret
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.storage.errors import PositionLostError
from starfish_server.storage.values import Position

__all__ = ("EventIds",)

_NONCE_BYTES = 12
_LENGTH = 96  # of a position, with what fills it up
_ID = re.compile(r"[A-Za-z0-9_-]{165,166}")


class EventIds:
    """Seals and opens the positions of one store's log."""

    def __init__(self, secret: StoreSecret) -> None:
        self._secret = secret
        self._cipher: ChaCha20Poly1305 | None = None

    async def ready(self) -> None:
        """Read the key, so that `seal` can be called.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        if self._cipher is None:
            self._cipher = ChaCha20Poly1305(await self._secret.derived("event positions"))

    def seal(self, position: Position) -> bytes:
        """The text for a client."""
        if self._cipher is None:
            raise RuntimeError("EventIds.ready was not awaited")
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, position.encode().ljust(_LENGTH), None)
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=")

    async def open(self, text: str) -> Position:
        """The position behind a client's text.

        Raises:
            RequestRefusedError: 400: it is not such a text.
            PositionLostError: it was sealed with the key of another store.
        """
        await self.ready()
        if _ID.fullmatch(text) is None or self._cipher is None:
            raise RequestRefusedError(400, "Invalid since parameter")
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            opened = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None)
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise PositionLostError(text[:16], "it was made by another store") from error
        return opened.decode().rstrip()

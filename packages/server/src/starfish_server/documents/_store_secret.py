"""A secret that belongs to a store: every process that shares the store, and every restart, has it.

It is made by the first request that needs it and stored create-only, so that of two processes
that make one at once both end with the same. Keys for different purposes are derived from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets

from starfish_server.documents._errors import DamagedDocumentError
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore, write_once
from starfish_server.storage.values import ABSENT, Value

__all__ = ("SECRET_KEY", "StoreSecret")

SECRET_KEY = "~server/secret"  # noqa: S105 - the name of the place, not the secret
"""Where it is stored; ``~`` is in no document's key."""

_HEX256 = re.compile(rb"[0-9a-f]{64}")


class StoreSecret:
    """The secret of one store, read once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._secret: bytes | None = None

    async def derived(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose.

        Raises:
            DamagedDocumentError: the stored value is not a secret; nothing is put in its place.
            StoreUnavailableError: the store does not answer.
        """
        if self._secret is None:
            self._secret = await self._read()
        return hashlib.blake2b(purpose.encode(), key=self._secret, digest_size=32).digest()

    async def _read(self) -> bytes:
        while True:
            found = await self._store.get(SECRET_KEY)
            if found is not None:
                if _HEX256.fullmatch(found.body) is None:
                    raise DamagedDocumentError(SECRET_KEY, "it must be 64 lowercase hex digits")
                return bytes.fromhex(found.body.decode())
            value = Value(secrets.token_hex(32).encode(), "text/plain")
            with contextlib.suppress(PreconditionFailedError):  # another process was first
                await write_once(self._store, SECRET_KEY, value, when=ABSENT)

"""Nonces of signed requests in the document store: shared by every server on that store."""

from __future__ import annotations

from typing_extensions import override

from starfish_http.callers.nonces import (
    NONCE_WINDOW_MS,
    MemoryNonces,
    NonceLimits,
    NonceStore,
    NonceVerdict,
    nonce_digest,
)
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore, write_once
from starfish_server.storage.values import ABSENT, Value

__all__ = ("StoredNonces",)

_PREFIX = "~nonces/"
"""``~`` is in no document's key."""


class StoredNonces(NonceStore):
    """Nonces as expiring values of a store, each written where there is none.

    A nonce that this process has seen is refused without asking the store. The bounds hold for each
    process; expired values are removed with those of documents.

    Args:
        store: of the documents.
        limits: how many a process keeps.
        window_ms: how long each is kept; one that expires now still counts.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        limits: NonceLimits | None = None,
        window_ms: int = NONCE_WINDOW_MS,
    ) -> None:
        self._store = store
        self._window_ms = window_ms
        self._own = MemoryNonces(limits, window_ms=window_ms)

    @override
    async def take(
        self, signer: str, nonce: str, now_ms: int, *, signed_ms: int, is_known: bool
    ) -> NonceVerdict:
        """Use a nonce up; as `NonceStore.take`.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        own = self._own.take_now(signer, nonce, now_ms, signed_ms=signed_ms, is_known=is_known)
        if own != "fresh":
            return own
        key = _PREFIX + nonce_digest(signer, nonce).hex()
        # A store takes a value for expired from its very time on; a nonce still counts then.
        value = Value(b"", "text/plain", written_at=now_ms, expires_at=now_ms + self._window_ms + 1)
        try:
            await write_once(self._store, key, value, when=ABSENT)
        except PreconditionFailedError:
            return "used"
        return "fresh"

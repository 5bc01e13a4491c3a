"""Nonces that were used: a signed request is taken once.

A live nonce is never dropped to make room. Callers whom the host knows nothing of have a smaller share
of the room, so that they cannot shut out the others.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = (
    "NONCE_WINDOW_MS",
    "MemoryNonces",
    "NonceLimits",
    "NonceStore",
    "NonceVerdict",
    "nonce_digest",
)

NONCE_WINDOW_MS = 600_000
"""Milliseconds for which a nonce is kept: twice the skew that a request's time may have."""

NonceVerdict = Literal["fresh", "used", "full"]
"""``full``: there is no room to remember it, so the request must not be taken."""


@dataclass(frozen=True, slots=True)
class NonceLimits:
    """How many live nonces are kept."""

    total: int = 500_000
    """Of all signers together."""
    of_strangers: int = 50_000
    """Of all signers together whom the host knows nothing of."""
    of_a_signer: int = 100_000
    """Of one signer."""
    of_a_stranger: int = 4096
    """Of one signer whom the host knows nothing of."""


class NonceStore(Protocol):
    """Where used nonces are kept."""

    async def take(
        self, signer: str, nonce: str, now_ms: int, *, signed_ms: int, is_known: bool
    ) -> NonceVerdict:
        """Use a nonce up, in one step for everybody who shares the store.

        Args:
            signer: the public key of the presenter.
            nonce: its text in the request.
            now_ms: the host's clock, milliseconds since the epoch.
            signed_ms: the time that the request says it was signed at, likewise.
            is_known: whether the host keeps data of the certificate's issuer.
        """
        ...


def nonce_digest(signer: str, nonce: str) -> bytes:
    """Sixteen bytes that stand for a nonce of a signer.

    Examples:
        >>> nonce_digest("a", "1") != nonce_digest("a1", "")
        True
    """
    return hashlib.blake2b(f"{signer}|{nonce}".encode(), digest_size=16).digest()


class MemoryNonces(NonceStore):
    """Nonces of one process, forgotten when it ends.

    Args:
        limits: how many are kept.
        window_ms: how long each is kept; one that expires now still counts.
        since_ms: milliseconds since the epoch; requests signed before it count as used, since a
            process before this one may have taken them. ``None`` where there was no such process.

    Examples:
        >>> import asyncio
        >>> nonces = MemoryNonces()
        >>> asyncio.run(nonces.take("key", "nonce", 0, signed_ms=0, is_known=True))
        'fresh'
        >>> asyncio.run(nonces.take("key", "nonce", 600_000, signed_ms=0, is_known=True))
        'used'
    """

    def __init__(
        self,
        limits: NonceLimits | None = None,
        *,
        window_ms: int = NONCE_WINDOW_MS,
        since_ms: int | None = None,
    ) -> None:
        self._limits = limits or NonceLimits()
        self._window_ms = window_ms
        self._since_ms = since_ms
        self._live: OrderedDict[bytes, tuple[int, str, bool]] = OrderedDict()
        self._of_signer: Counter[str] = Counter()
        self._of_strangers = 0

    async def take(
        self, signer: str, nonce: str, now_ms: int, *, signed_ms: int, is_known: bool
    ) -> NonceVerdict:
        """Use a nonce up; as `NonceStore.take`."""
        return self.take_now(signer, nonce, now_ms, signed_ms=signed_ms, is_known=is_known)

    def take_now(
        self, signer: str, nonce: str, now_ms: int, *, signed_ms: int, is_known: bool
    ) -> NonceVerdict:
        """As `take`, without a wait."""
        if self._since_ms is not None and signed_ms < self._since_ms:
            return "used"
        self._expire(now_ms)
        key = nonce_digest(signer, nonce)
        found = self._live.get(key)
        if found is not None and found[0] >= now_ms:
            return "used"
        limits = self._limits
        mine = limits.of_a_signer if is_known else limits.of_a_stranger
        if (
            len(self._live) >= limits.total
            or self._of_signer[signer] >= mine
            or (not is_known and self._of_strangers >= limits.of_strangers)
        ):
            return "full"
        self._live[key] = (now_ms + self._window_ms, signer, is_known)
        self._of_signer[signer] += 1
        self._of_strangers += not is_known
        return "fresh"

    def _expire(self, now_ms: int) -> None:
        # All are kept equally long, so they expire in the order in which they came.
        while self._live:
            key, (expires, signer, is_known) = next(iter(self._live.items()))
            if expires >= now_ms:
                return
            del self._live[key]
            self._of_strangers -= not is_known
            self._of_signer[signer] -= 1
            if not self._of_signer[signer]:
                del self._of_signer[signer]

"""Capability certificates in a server: the authenticator, and what a server keeps for it.

See `starfish_http.callers.capabilities` for the rules of certificates and signed requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from starfish_http.callers.capabilities import CapabilityAuthenticator
from starfish_http.callers.nonces import MemoryNonces, NonceStore
from starfish_protocol.clock import Clock, SystemClock
from starfish_server.auth._known_issuers import KnownIssuers
from starfish_server.auth._sqlite_nonces import SqliteNonces
from starfish_server.auth._stored_nonces import StoredNonces
from starfish_server.auth._stored_revocations import Acceptance, StoredRevocations
from starfish_server.config.schema import CapabilitiesConfig
from starfish_server.storage.object_store import ObjectStore

__all__ = (
    "Acceptance",
    "Capabilities",
    "KnownIssuers",
    "SqliteNonces",
    "StoredNonces",
    "StoredRevocations",
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server needs to know callers by certificates."""

    authenticator: CapabilityAuthenticator
    """An `Authenticate`, to be passed to the registry and to mpack as well."""
    revocations: StoredRevocations
    issuers: KnownIssuers
    nonces: NonceStore
    requires_signed_blobs: bool = False
    """Whether a binary upload must be signed over its bytes, which existing clients do not do."""

    @classmethod
    def of(
        cls,
        config: CapabilitiesConfig,
        store: ObjectStore,
        *,
        nonces: NonceStore | None = None,
        clock: Clock | None = None,
    ) -> Capabilities:
        """Make it of a configuration and the store of the documents.

        Args:
            config: the section ``capabilities``.
            store: keeps revocations, and who is known.
            nonces: where nonces are kept; ``None`` for the store, or for this process where no
                other can use the store.
            clock: the server's.

        Examples:
            >>> from starfish_server import MemoryObjectStore
            >>> from starfish_server.config.schema import CapabilitiesConfig
            >>> config = CapabilitiesConfig(publicHosts=["sync.example"])
            >>> capabilities = Capabilities.of(config, MemoryObjectStore())
        """
        clock = clock or SystemClock()
        if nonces is None:
            nonces = StoredNonces(store) if store.is_shared else MemoryNonces()
        issuers = KnownIssuers(store)
        revocations = StoredRevocations(store, issuers, clock=clock)
        authenticator = CapabilityAuthenticator(
            nonces=nonces,
            revocations=revocations,
            public_hosts=config.public_hosts,
            trusted_issuers=config.trusted_issuers,
            allow_anonymous=config.allow_anonymous,
            max_lifetime_s=config.max_cap_lifetime_seconds,
            knows=issuers.knows,
            clock=clock,
        )
        return cls(authenticator, revocations, issuers, nonces, config.require_signed_blobs)

    async def close(self) -> None:
        """Close the file of the nonces, where there is one; the next request opens it again."""
        if isinstance(self.nonces, SqliteNonces):
            await self.nonces.close()

"""The application that ``starfish-server run`` serves, made in each of its processes."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from fastapi import FastAPI

from starfish_http.bounded_protocol import ConnectionLimits
from starfish_http.callers import Authenticator, CombinedAuthenticator, as_authenticator
from starfish_http.rate_limit import Counters
from starfish_http.serve import ServeOptions
from starfish_server.app import EdgeOptions, anonymous_role_resolver, create_app
from starfish_server.auth import RoleResolver, TokenFile, create_token_role_resolver
from starfish_server.auth.capabilities import Capabilities, SqliteNonces
from starfish_server.config._validate import validate_config
from starfish_server.config.schema import ConfigEndpointOptions, CorsConfig, JwtConfig, SyncConfig
from starfish_server.errors import ConfigError
from starfish_server.maintenance._store_place import StoreKind, StorePlace
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.base import AbstractObjectStore
from starfish_server.storage.memory import MemoryObjectStore

__all__ = ("ServeSettings", "StoreName")

StoreName = Literal["sqlite", "filesystem", "postgres", "objects", "memory"]


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What every process of one server has in common."""

    config: SyncConfig
    store: StoreName
    data: Path | None
    """Folder of the store; ``None`` for the others."""
    dsn: str | None
    """Database of the store; ``None`` for the others."""
    bucket: str | None
    """Address of the storage; ``None`` for the others."""
    tokens: Path | None
    workers: int
    trusted_proxy_hops: int
    config_endpoint: Literal["public", "role-filtered"] | None
    max_connections: int
    keep_alive_s: int
    drain_s: int
    access_log: bool
    counters: Counters
    """Shared by the processes, which are forked from the one that made it."""
    cors_origins: Sequence[str] = ()
    """Beside those of the configuration."""
    request_ids: bool = False
    metrics: bool = False
    tracing: bool = False

    def serve_options(self) -> ServeOptions:
        """How the application is served."""
        # Behind a proxy, all connections come from the address of the proxy.
        per_address = self.max_connections if self.trusted_proxy_hops else None
        return ServeOptions(
            workers=self.workers,
            limits=ConnectionLimits(
                max_connections=self.max_connections, max_connections_per_address=per_address
            ),
            keep_alive_s=self.keep_alive_s,
            drain_s=self.drain_s,
            access_log=self.access_log,
        )

    def check(self) -> None:
        """Return if each process can make its application.

        Raises:
            ConfigError: an origin, or the section ``jwt``, is refused.
            ImportError: an extra is missing.
        """
        validate_config(self._config_with_origins())
        if self.config.jwt is not None:
            _jwt_authenticator(self.config.jwt)
        if self.metrics:
            import_module("starfish_http.metrics")
        if self.tracing:
            import_module("starfish_http.tracing")

    def create_app(self) -> FastAPI:
        """The application.

        Raises:
            ConfigError: the store cannot serve the configuration.
        """
        store = self._store()
        resolver: RoleResolver = anonymous_role_resolver
        if self.tokens is not None:
            resolver = create_token_role_resolver(TokenFile(self.tokens))
        jwt = self.config.jwt
        if jwt is not None:
            resolver = CombinedAuthenticator(
                jwt=_jwt_authenticator(jwt),
                tokens=as_authenticator(resolver, plain="request"),
            )
        endpoint = self.config_endpoint
        wanted = self.config.capabilities
        capabilities = None
        if wanted is not None and wanted.enabled and self.data is not None:
            # Beside the documents, where a nonce costs no sync and all workers see it.
            nonces = SqliteNonces(self.data / "nonces.sqlite")
            capabilities = Capabilities.of(wanted, as_object_store(store), nonces=nonces)
        app = create_app(
            self._config_with_origins(),
            store=store,
            edge=EdgeOptions(
                request_ids=self.request_ids, metrics=self.metrics, tracing=self.tracing
            ),
            role_resolver=resolver,
            trusted_proxy_hops=self.trusted_proxy_hops,
            # Streams leave connections for requests.
            max_event_streams=max(1, self.max_connections // 2),
            capabilities=capabilities,
            config_endpoint=None if endpoint is None else ConfigEndpointOptions(auth=endpoint),
            rate_limit_counters=self.counters,
        )
        # All of this stays, so no collection need look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        return app

    def _config_with_origins(self) -> SyncConfig:
        if not self.cors_origins:
            return self.config
        own = [] if self.config.cors is None else self.config.cors.origins
        cors = CorsConfig(origins=list(dict.fromkeys([*own, *self.cors_origins])))
        return self.config.model_copy(update={"cors": cors})

    def _store(self) -> AbstractObjectStore:
        if self.store == "postgres" and self.dsn is not None:
            from starfish_server.storage.postgres import PostgresObjectStore

            return PostgresObjectStore(self.dsn)
        if self.store == "objects" and self.bucket is not None:
            from starfish_server.storage.objects import ObjectStoreAdapter

            return ObjectStoreAdapter.from_url(self.bucket)
        if self.store == "memory" or self.data is None:
            return MemoryObjectStore()
        kind: StoreKind = "filesystem" if self.store == "filesystem" else "sqlite"
        return StorePlace(kind, self.data).open()


def _jwt_authenticator(config: JwtConfig) -> Authenticator:
    """What knows callers by the tokens of an identity provider.

    Raises:
        ConfigError: an algorithm or the address of the keys is refused.
        ImportError: the extra ``jwt`` is missing.
    """
    from starfish_http.callers.jwt import JwtAuthenticator, KeyCache, keys_from_file, keys_from_url

    try:
        is_address = "://" in config.keys
        fetch = keys_from_url(config.keys) if is_address else keys_from_file(config.keys)
        return JwtAuthenticator(
            KeyCache(fetch),
            issuer=config.issuer,
            audience=config.audience,
            algorithms=config.algorithms,
            roles_claim=config.roles_claim,
            identity_claim=config.identity_claim,
            scope_claim=config.scope_claim,
        )
    except ValueError as error:
        raise ConfigError([f"jwt: {error}"]) from error

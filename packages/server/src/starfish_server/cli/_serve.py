"""The application that ``starfish-server run`` serves, made in each of its processes."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastapi import FastAPI

from starfish_http.bounded_protocol import ConnectionLimits
from starfish_http.rate_limit import Counters
from starfish_http.serve import ServeOptions
from starfish_server.app import anonymous_role_resolver, create_app
from starfish_server.auth import RoleResolver, TokenFile, create_token_role_resolver
from starfish_server.config.schema import ConfigEndpointOptions, SyncConfig
from starfish_server.maintenance._store_place import StoreKind, StorePlace
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

    def create_app(self) -> FastAPI:
        """The application.

        Raises:
            ConfigError: the store cannot serve the configuration.
        """
        store = self._store()
        resolver: RoleResolver = anonymous_role_resolver
        if self.tokens is not None:
            resolver = create_token_role_resolver(TokenFile(self.tokens))
        endpoint = self.config_endpoint
        app = create_app(
            self.config,
            store=store,
            role_resolver=resolver,
            trusted_proxy_hops=self.trusted_proxy_hops,
            # Streams leave connections for requests.
            max_event_streams=max(1, self.max_connections // 2),
            config_endpoint=None if endpoint is None else ConfigEndpointOptions(auth=endpoint),
            rate_limit_counters=self.counters,
        )
        # All of this stays, so no collection need look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        return app

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

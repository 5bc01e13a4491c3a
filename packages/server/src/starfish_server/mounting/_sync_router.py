"""Assemble a router: which collection is served where, by which handler."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from starfish_http.callers import CombinedAuthenticator, as_authenticator
from starfish_http.events import StreamBudget
from starfish_http.rate_limit import Counters
from starfish_protocol.clock import Clock, SystemClock
from starfish_protocol.plugins import ServerPlugin
from starfish_server._plugin_chain import PluginChain
from starfish_server.auth._result import RoleResolver
from starfish_server.auth.capabilities import Capabilities
from starfish_server.config._validate import located_collections, validate_config
from starfish_server.config.schema import ConfigEndpointOptions, IdentityRestriction, SyncConfig
from starfish_server.documents._append_log import AppendLog
from starfish_server.documents._push import DocumentWriter
from starfish_server.documents._store_secret import StoreSecret
from starfish_server.errors import ConfigError
from starfish_server.maintenance._compacting import TOMBSTONE_RETENTION_MS
from starfish_server.mounting._dispatch import (
    DISPATCH_METHODS,
    DISPATCH_PATH,
    Dispatcher,
    DocumentedRoute,
    SyncRouter,
    dispatch_route_class,
    endpoint_of,
)
from starfish_server.mounting._openapi import operations
from starfish_server.mounting._upkeep import kept_up
from starfish_server.requests._access import AccessControl, RoleEnricher
from starfish_server.requests._event_ids import EventIds
from starfish_server.requests._request_context import Handler, Services
from starfish_server.requests._request_limits import RequestLimits, counters_of_store
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.requests._stream_tickets import StreamTickets
from starfish_server.requests._views import Views
from starfish_server.routes._appends import append_handler, append_pull_handler
from starfish_server.routes._batch import DENIED_SUFFIXES, BatchLimits, batch_pull_handler
from starfish_server.routes._blobs import blob_pull_handler, blob_push_handler
from starfish_server.routes._bundles import bundle_pull_handler
from starfish_server.routes._deletes import delete_handler
from starfish_server.routes._documents import pull_handler, push_handler
from starfish_server.routes._feed import EventFeed
from starfish_server.routes._keyrings import Keyrings
from starfish_server.routes._lists import list_handler
from starfish_server.routes._revocations import revocations_handler
from starfish_server.routes._service import config_handler, health_handler, ready_handler
from starfish_server.storage.adapter import OldContractStore, as_object_store
from starfish_server.storage.base import AbstractObjectStore
from starfish_server.storage.object_store import ObjectStore

__all__ = ("SyncRouterOptions", "create_sync_router")


@dataclass(frozen=True, slots=True)
class SyncRouterOptions:
    """What a router is made from."""

    store: AbstractObjectStore
    config: SyncConfig
    role_resolver: RoleResolver
    """Tells who sends a request; called once a request, also for public collections, so that an
    identity is known where there is one. A caller that it refuses may still use ``public`` collections."""
    role_enricher: RoleEnricher | None = None
    """Adds roles that depend on the document."""
    plugins: Sequence[ServerPlugin] | None = None
    role_resolver_timeout: float = 5.0
    """Seconds, for the resolver and the enricher each."""
    config_endpoint: ConfigEndpointOptions | None = None
    """Who may read ``/config``; ``None`` for no such route."""
    max_collections_per_batch: int = 100
    """Most documents of one ``/batch/pull``."""
    max_batch_append_elements: int = 5000
    """Most elements that one ``/batch/pull`` returns of all its append-only documents together."""
    max_batch_bytes: int = 8 * 1024 * 1024
    """Most bytes of the documents that one ``/batch/pull`` returns; a first document that is larger
    by itself is returned alone."""
    batch_key_deny_suffixes: Sequence[str] | None = None
    """Ends of keys that no ``/batch/pull`` reads; ``None`` for ``/_keyring`` and ``/_members``."""
    capabilities: Capabilities | None = None
    """Callers with capability certificates; ``None`` makes them of the configuration, if that wants them."""
    rate_limit_store: AbstractObjectStore | None = None
    """Where servers on several machines share counters, in lots of permits; ``None`` for one machine."""
    rate_limit_counters: Counters | None = None
    """Where requests are counted: `starfish_http.rate_limit.SharedCounters`, made before the processes of
    one machine are forked; ``None`` for the memory of this process. Not with ``rate_limit_store``."""
    trusted_proxy_hops: int = 0
    """How many proxies of one's own a request passes, each adding to ``X-Forwarded-For``."""
    body_timeout: float = 30.0
    """Seconds within which a request's body must have arrived."""
    max_event_streams: int = 1024
    """Most ``/events`` that are open at a time; the next one is told to try again."""
    max_event_streams_per_caller: int = 32
    """Most of them of one identity, or of one address where there is none."""
    tombstone_retention_ms: int | None = TOMBSTONE_RETENTION_MS
    """How long the change log remembers that a document was removed: 30 days. Once an hour changes that
    newer ones stand for go, and older tombstones; ``None`` leaves the log as it is."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set it when the server stops: open ``/events`` end then, and nothing else does."""
    clock: Clock = field(default_factory=SystemClock)


def create_sync_router(options: SyncRouterOptions) -> APIRouter:
    """Serve a configuration from a store.

    The router's lifespan starts and stops the plugins, removes expired documents once a minute and
    compacts the change log once an hour; FastAPI merges it into the application's
    when the router is included. The store is the caller's to close.

    Raises:
        ConfigError: the configuration cannot be served, by itself or from this store.

    Examples:
        >>> from fastapi import FastAPI
        >>> from starfish_server.storage.memory import MemoryObjectStore
        >>> from starfish_server.auth._result import AuthResult
        >>> async def anybody(request):
        ...     return AuthResult(identity=None)
        >>> app = FastAPI()
        >>> config = SyncConfig(collections=[])
        >>> options = SyncRouterOptions(MemoryObjectStore(), config, anybody)
        >>> app.include_router(create_sync_router(options), prefix="/v1")
    """
    validate_config(options.config)
    collections = [
        ServedCollection.compile(
            located.config, located.namespace, _restrictions(options.config, located.namespace)
        )
        for located in located_collections(options.config)
    ]
    _check_store(options.store, collections)
    services = _services(options)
    dispatcher = Dispatcher(services)
    log = services.store.changes
    feed = (
        None
        if log is None
        else EventFeed(
            log,
            EventIds(StoreSecret(services.store)),
            StreamTickets(services.store, options.clock),
            options.stopping,
            StreamBudget(
                total=options.max_event_streams,
                per_caller=options.max_event_streams_per_caller,
            ),
        )
    )
    for prefix, members in _by_prefix(options.config, collections).items():
        # Clients of the protocol ask for a namespace below /v1.
        for path in (prefix, f"v1/{prefix}") if prefix and prefix != "v1/" else (prefix,):
            _add_routes(dispatcher, path, members, options, feed)
            if feed is not None:
                namespace = prefix[:-1] or None
                dispatcher.add(path, "events", "GET", feed.handler(members, namespace))
                dispatcher.add(path, "events/ticket", "POST", feed.ticket_handler(namespace))
    if services.capabilities is not None:
        handler = revocations_handler(services.capabilities.revocations, options.clock)
        dispatcher.add("", "revocations", "POST", handler)
    router = SyncRouter(dispatcher, lifespan=_lifespan(services, options.tombstone_retention_ms))
    router.add_api_route(
        DISPATCH_PATH,
        endpoint_of(dispatcher),
        methods=list(DISPATCH_METHODS),
        include_in_schema=False,
        route_class_override=dispatch_route_class(dispatcher),
    )
    for operation in operations(
        collections,
        list(options.config.namespaces or {}),
        has_config=options.config_endpoint is not None,
        max_documents=options.max_collections_per_batch,
    ):
        router.add_api_route(
            operation.path,
            endpoint_of(dispatcher),
            methods=[operation.method],
            route_class_override=DocumentedRoute,
            name=operation.name,
            summary=operation.summary,
            operation_id=operation.operation_id,
            tags=[operation.tag],
            responses=operation.responses,
            openapi_extra=operation.extra,
            response_class=Response,
        )
        documented = router.routes[-1]
        if isinstance(documented, DocumentedRoute):
            dispatcher.document(operation.path[1:], documented)
    return router


def _services(options: SyncRouterOptions) -> Services:
    store = as_object_store(options.store)
    plugins = PluginChain(options.plugins)
    limited = options.config.server_rate_limit is not None or any(
        located.config.rate_limit is not None for located in located_collections(options.config)
    )
    capabilities = options.capabilities or _capabilities(options, store)
    authenticator = as_authenticator(options.role_resolver, plain="request")
    if capabilities is not None:
        authenticator = CombinedAuthenticator(
            capabilities=capabilities.authenticator, tokens=authenticator
        )
    return Services(
        store=store,
        writer=DocumentWriter(store, options.clock),
        log=AppendLog(store, options.clock),
        views=Views(StoreSecret(store)),
        access=AccessControl(
            authenticator,
            options.role_enricher,
            plugins,
            timeout=options.role_resolver_timeout,
            clock=options.clock,
        ),
        plugins=plugins,
        limiter=(
            RequestLimits(options.config, clock=options.clock, counters=_counters(options))
            if limited
            else None
        ),
        trusted_proxy_hops=options.trusted_proxy_hops,
        clock=options.clock,
        body_timeout=options.body_timeout,
        capabilities=capabilities,
    )


def _counters(options: SyncRouterOptions) -> Counters | None:
    if options.rate_limit_store is None:
        return options.rate_limit_counters
    if options.rate_limit_counters is not None:
        raise ConfigError(["rate_limit_store and rate_limit_counters: one of the two may be given"])
    return counters_of_store(options.rate_limit_store)


def _capabilities(options: SyncRouterOptions, store: ObjectStore) -> Capabilities | None:
    config = options.config.capabilities
    if config is None or not config.enabled:
        return None
    return Capabilities.of(config, store, clock=options.clock)


def _restrictions(config: SyncConfig, namespace: str | None) -> Sequence[IdentityRestriction]:
    own = None if namespace is None else (config.namespaces or {})[namespace].restrictions
    return (*(config.restrictions or ()), *(own or ()))


def _lifespan(services: Services, retention_ms: int | None) -> Any:
    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[None]:
        upkeep = kept_up(services.store, services.clock, retention_ms=retention_ms)
        try:
            async with services.plugins.running(), upkeep:
                yield
        finally:
            if services.capabilities is not None:
                await services.capabilities.close()

    return lifespan


def _by_prefix(
    config: SyncConfig, collections: Sequence[ServedCollection]
) -> Mapping[str, list[ServedCollection]]:
    members: dict[str, list[ServedCollection]] = {"": []}
    for namespace in config.namespaces or {}:
        members[f"{namespace}/"] = []
    for collection in collections:
        members["" if collection.namespace is None else f"{collection.namespace}/"].append(
            collection
        )
    return members


def _add_routes(
    dispatcher: Dispatcher,
    prefix: str,
    members: Sequence[ServedCollection],
    options: SyncRouterOptions,
    feed: EventFeed | None,
) -> None:
    bundles: dict[str, list[ServedCollection]] = defaultdict(list)
    keyrings = Keyrings(members)
    for collection in members:
        config = collection.config
        pull, push = _handlers(collection, feed, keyrings)
        if not config.push_only:
            if config.bundle is None:
                dispatcher.add(f"{prefix}pull/", collection.template.text, "GET", pull)
            else:
                bundles[config.storage_path].append(collection)
        if not config.pull_only:
            dispatcher.add(f"{prefix}push/", collection.template.text, "POST", push)
        if config.deletable:
            handler = delete_handler(collection)
            dispatcher.add(f"{prefix}push/", collection.template.text, "DELETE", handler)
        if config.listable:
            path = collection.template.list_path
            dispatcher.add(f"{prefix}list/", path, "GET", list_handler(collection, members))
    for path, bundle in bundles.items():
        dispatcher.add(f"{prefix}pull/", path, "GET", bundle_pull_handler(bundle))
    limits = BatchLimits(
        options.max_collections_per_batch,
        options.max_batch_append_elements,
        options.max_batch_bytes,
        DENIED_SUFFIXES
        if options.batch_key_deny_suffixes is None
        else options.batch_key_deny_suffixes,
    )
    dispatcher.add(prefix, "batch/pull", "GET", batch_pull_handler(members, limits))
    dispatcher.add(prefix, "health", "GET", health_handler)
    dispatcher.add(prefix, "ready", "GET", ready_handler)
    if options.config_endpoint is not None:
        handler = config_handler(members, options.config_endpoint)
        dispatcher.add(prefix, "config", "GET", handler)
    for word in ("pull/", "push/", "list/"):
        dispatcher.claim(prefix + word)


def _handlers(
    collection: ServedCollection, feed: EventFeed | None, keyrings: Keyrings
) -> tuple[Handler, Handler]:
    if collection.config.append_only is not None:
        append_only = collection.config.append_only
        return append_pull_handler(collection, append_only), append_handler(
            collection, append_only, feed
        )
    if collection.config.is_binary:
        return blob_pull_handler(collection), blob_push_handler(collection)
    return pull_handler(collection, keyrings), push_handler(collection)


def _check_store(store: AbstractObjectStore, collections: Sequence[ServedCollection]) -> None:
    cls = type(store)
    has_bytes = (
        cls.get_bytes is not AbstractObjectStore.get_bytes
        and cls.put_bytes is not AbstractObjectStore.put_bytes
    )
    problems = [
        f"collection {collection.name!r} is binary, and {cls.__name__} stores no bytes; "
        "the store must have get_bytes and put_bytes"
        for collection in collections
        if collection.config.is_binary and not has_bytes
    ]
    opened = as_object_store(store)
    if isinstance(opened, OldContractStore) and not opened.removes_versions:
        problems += [
            f"collection {collection.name!r} is deletable, and {cls.__name__} cannot remove one "
            "version of a document; the store must be an ObjectStore with its own remove"
            for collection in collections
            if collection.config.deletable
        ]
    if problems:
        raise ConfigError(problems)

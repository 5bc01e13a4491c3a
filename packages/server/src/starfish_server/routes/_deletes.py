"""``DELETE /push/<path>``: a document of JSON or bytes reads as never written from then on."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

from starfish_http.answers import Answer, raw_json_answer
from starfish_http.request_body import header
from starfish_server.documents._document_text import Snapshot
from starfish_server.documents._removal import StoredVersion, remove_document
from starfish_server.documents._types import PushConflict
from starfish_server.requests._field_permissions import check_removal
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.requests._write_conditions import write_condition
from starfish_server.routes._blobs import is_expired_blob, stored_hash
from starfish_server.routes._documents import conflict_answer, intercepted_push, write_event
from starfish_server.storage.base import StoreContext

__all__ = ("delete_handler",)

_Current = Callable[[], Awaitable[StoredVersion | None]]


class _OtherVersionError(Exception):
    """The document is not the version that ``baseHash`` names."""

    def __init__(self, current: str) -> None:
        super().__init__()
        self.current = current


def delete_handler(collection: ServedCollection) -> Handler:
    """``DELETE /push/<path>`` of one collection: the rights and the limits of a push."""

    async def delete(request: RequestContext) -> Answer:
        context = await request.admit(collection, "push")
        check_removal(collection, context)
        check = _condition(request, collection)
        answered = await intercepted_push(request, context, b"", is_delete=True)
        if answered is not None:
            return answered
        services, key = request.services, collection.store_key(request.rest)
        now = services.clock.now_ms()
        read = _blob_version if collection.config.is_binary else _document_version
        current: _Current = functools.partial(read, request, collection, context)
        try:
            existed = await remove_document(
                services.store, key, now, current=current, check=check, context=context
            )
        except _OtherVersionError as other:
            return await conflict_answer(request, collection, PushConflict(other.current))
        services.writer.memory.forget(key)
        if existed and services.plugins.observes_writes:
            event = write_event(request, context, "", now, None, is_deleted=True)
            await services.plugins.after_write(event)
        return raw_json_answer(b'{"hash":"","timestamp":%d}' % now)

    return delete


def _condition(request: RequestContext, collection: ServedCollection) -> Callable[[str], None]:
    """What the request demands of the version that it removes.

    Raises:
        RequestRefusedError: 428: it demands nothing, and must.
    """
    of_headers = write_condition(request.scope)
    base_hash = request.query.get("baseHash")
    is_named = base_hash is not None or header(request.scope, b"if-match") is not None
    if not is_named and not collection.config.unconditional_deletes:
        raise RequestRefusedError(
            428, "precondition_required", message="baseHash or If-Match must name a version"
        )

    def check(current: str) -> None:
        if of_headers is not None:
            of_headers(current)
        if base_hash is not None and base_hash != current:
            raise _OtherVersionError(current)

    return check


async def _document_version(
    request: RequestContext, collection: ServedCollection, context: StoreContext
) -> StoredVersion | None:
    services, key = request.services, collection.store_key(request.rest)
    found = await services.store.get(key, context=context)
    if found is None:
        return None
    snapshot = Snapshot.parse(key, found.body)
    if snapshot.is_expired(services.clock.now_ms(), collection.config.ttl_ms):
        return None
    names = await services.views.names(collection, key, context)
    return StoredVersion(names.of(snapshot.hash, snapshot.ts), found.metadata.etag)


async def _blob_version(
    request: RequestContext, collection: ServedCollection, context: StoreContext
) -> StoredVersion | None:
    services, key = request.services, collection.store_key(request.rest)
    metadata = await services.store.stat(key, context=context)
    if metadata is None or is_expired_blob(
        metadata, collection.config.ttl_ms, services.clock.now_ms()
    ):
        return None
    hash_ = await stored_hash(services.store, key, metadata, context)
    return StoredVersion(hash_, metadata.etag)

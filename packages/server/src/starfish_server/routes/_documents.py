"""``/pull`` and ``/push`` of JSON documents."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jsonschema_rs import Draft202012Validator

from starfish_http.answers import Answer, Headers, json_answer, raw_json_answer
from starfish_http.entity_tags import is_not_modified
from starfish_protocol.constants import BASE_HASH_FIELD, CURRENT_HASH_FIELD, DATA_FIELD, ERROR_FIELD
from starfish_protocol.plugins import PushHookContext, WriteEvent
from starfish_server.documents._beside_the_loop import beside_the_loop
from starfish_server.documents._document_text import (
    PreparedDocument,
    Snapshot,
    prepare_document,
)
from starfish_server.documents._json_shapes import is_object
from starfish_server.documents._types import AuthorProof, PushConflict, PushSuccess
from starfish_server.requests._author_proof import checked_document_author
from starfish_server.requests._field_permissions import merge_push
from starfish_server.requests._json_body import parse_json_object
from starfish_server.requests._media_types import checked_media_type
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.requests._write_conditions import write_condition
from starfish_server.routes._keyrings import Keyrings, read_snapshot, wants_keyring
from starfish_server.storage.base import StoreContext

__all__ = (
    "check_schema",
    "conflict_answer",
    "intercepted_push",
    "pull_handler",
    "push_handler",
    "pushed_document",
    "write_event",
)

_LONGEST_MESSAGE = 500


def pull_handler(collection: ServedCollection, keyrings: Keyrings) -> Handler:
    """``GET /pull/<path>`` of one collection."""

    async def pull(request: RequestContext) -> Answer:
        context = await request.admit(collection, "pull")
        answered = await request.plugins_answer(context, request.rest)
        if answered is not None:
            return answered
        snapshot = await read_snapshot(request, collection, request.rest, context)
        view = await request.services.views.of(collection, request.rest, snapshot, context)
        etag = view.etag
        headers: Headers = [(b"etag", etag)]
        now = request.services.clock.now_ms()
        keyring = b""
        if request.scope["query_string"] and wants_keyring(request.query):
            keyring = await keyrings.beside(request, collection, now)
        if collection.cache_control is not None:
            # A keyring is for this caller, whatever the document is.
            headers.append(
                (
                    b"cache-control",
                    b"private, no-store" if keyring else collection.cache_control.encode(),
                )
            )
        if not keyring and is_not_modified(request.scope, etag):
            return Answer(304, b"", headers)
        body = b'{"data":%b,"hash":"%b","timestamp":%d%b%b}' % (
            view.data_json,
            view.hash.encode(),
            now,
            view.author,
            keyring,
        )
        return raw_json_answer(body, headers)

    return pull


def push_handler(collection: ServedCollection) -> Handler:
    """``POST /push/<path>`` of one collection."""
    config = collection.config

    async def push(request: RequestContext) -> Answer:
        context = await request.admit(collection, "push", config.max_body_bytes)
        raw, body, document = await pushed_document(request, collection)
        base_hash = body.get(BASE_HASH_FIELD)
        if base_hash is not None and not isinstance(base_hash, str):
            raise RequestRefusedError(400, "baseHash must be a string or null")
        caller = await request.caller()
        author = await beside_the_loop(
            len(raw), checked_document_author, body, request.rest, document.data, caller.auth
        )
        guarded = bool(collection.hidden_fields or collection.guarded_fields)
        if collection.validator is not None and not guarded:
            await beside_the_loop(len(raw), check_schema, collection.validator, document.data)
        answered = await intercepted_push(request, context, raw)
        if answered is not None:
            return answered
        if guarded:
            written = await _write_guarded(
                request, collection, document, base_hash, author, context=context
            )
        else:
            result = await request.services.writer.write(
                collection.store_key(request.rest),
                document,
                base_hash,
                author,
                context=context,
                ttl_ms=config.ttl_ms,
                check=write_condition(request.scope),
            )
            written = result if isinstance(result, PushConflict) else (result, document)
        if isinstance(written, PushConflict):
            return await conflict_answer(request, collection, written)
        success, stored = written
        if request.services.plugins.observes_writes:
            event = write_event(request, context, success.hash, success.timestamp, stored.data)
            await request.services.plugins.after_write(event)
        hash_ = success.hash
        if collection.hidden_fields:
            key = collection.store_key(request.rest)
            names = await request.services.views.names(collection, key, context)
            hash_ = names.of(success.hash, success.timestamp)
        return raw_json_answer(
            b'{"hash":"%b","timestamp":%d}' % (hash_.encode(), success.timestamp)
        )

    return push


async def conflict_answer(
    request: RequestContext, collection: ServedCollection, conflict: PushConflict
) -> Answer:
    """409, with the current version for callers who may pull this very document."""
    told = {ERROR_FIELD: "hash_mismatch"}
    if await request.as_reader(collection, request.rest, request.params) is not None:
        told[CURRENT_HASH_FIELD] = conflict.current_hash
    return json_answer(409, told)


async def pushed_document(
    request: RequestContext, collection: ServedCollection
) -> tuple[bytes, dict[str, Any], PreparedDocument]:
    """The body of a push as bytes and as an object, and its ``data`` ready to be stored.

    Raises:
        RequestRefusedError: 400, 408, 413 or 415.
    """
    checked_media_type(request.scope, collection.config.allowed_mime_types)
    raw = await request.body().read()
    body, document = await beside_the_loop(len(raw), _parsed, raw)
    return raw, body, document


def _parsed(raw: bytes) -> tuple[dict[str, Any], PreparedDocument]:
    body = parse_json_object(raw)
    data = body.get(DATA_FIELD)
    if not is_object(data):
        raise RequestRefusedError(400, "Missing or invalid data")
    return body, prepare_document(data)


def check_schema(
    validator: Draft202012Validator, data: dict[str, Any], hidden: Collection[str] = ()
) -> None:
    """Hold ``data`` against the collection's schema.

    Args:
        validator: of the schema.
        data: the document to store.
        hidden: fields that the caller may not see, of which the answer says nothing.

    Raises:
        RequestRefusedError: 400 with the first violation's message, path and keyword.
    """
    for error in validator.iter_errors(data):
        steps = error.instance_path
        message, path, keyword = error.message, list(steps), error.kind.name
        # A message quotes the value that it is about, and so may quote everything below it.
        if hidden and (not steps or steps[0] in hidden):
            message, path, keyword = "not valid", [], "schema"
        raise RequestRefusedError(
            400,
            f"Schema validation failed: {_quoted(message)[:_LONGEST_MESSAGE]}",
            path=path,
            validator=keyword,
        )


def _quoted(message: str) -> str:
    """With single quotes around values, as the clients' users know such messages."""
    return message if "'" in message or "\\" in message else message.replace('"', "'")


async def intercepted_push(
    request: RequestContext,
    context: StoreContext,
    raw: bytes,
    encoding: str = "utf-8",
    *,
    is_delete: bool = False,
) -> Answer | None:
    """What a plugin answers to a push or a removal in place of the store.

    Raises:
        RequestRefusedError: a plugin rejects the push.
    """
    plugins = request.services.plugins
    if not plugins.gates_pushes:
        return None
    hook = PushHookContext(
        context.collection, context.params, raw.decode(encoding), context.namespace, is_delete
    )
    result = await plugins.intercept_push(hook)
    if result is None:
        return None
    if result.action == "reject":
        raise RequestRefusedError(result.status or 403, result.error or "Forbidden")
    return json_answer(result.status or 200, {} if result.body is None else result.body)


def write_event(
    request: RequestContext,
    context: StoreContext,
    hash_: str,
    timestamp: int,
    body: dict[str, Any] | None,
    *,
    is_deleted: bool = False,
) -> WriteEvent:
    """What plugins get to know of a push or a removal."""
    return WriteEvent(
        context.collection,
        hash_,
        timestamp,
        context.params,
        body,
        context.namespace,
        context.identity,
        request.rest,
        is_deleted=is_deleted,
    )


async def _write_guarded(
    request: RequestContext,
    collection: ServedCollection,
    pushed: PreparedDocument,
    base_hash: str | None,
    author: AuthorProof | None,
    *,
    context: StoreContext,
) -> tuple[PushSuccess, PreparedDocument] | PushConflict:
    """Write what the caller may change, and keep what they may not see."""
    key = collection.store_key(request.rest)
    names = await request.services.views.names(collection, key, context)
    if author is not None and names.hidden:
        raise RequestRefusedError(403, "a signed push needs to see every field")

    def merged_with(current: Snapshot | None) -> PreparedDocument:
        before = {} if current is None else current.document(key).data
        merged = merge_push(collection, before, pushed.data, context)
        if collection.validator is not None:
            check_schema(collection.validator, merged, names.hidden)
        return prepare_document(merged)

    async def compose(current: Snapshot | None) -> PreparedDocument:
        size = len(pushed.json) + (0 if current is None else len(current.data_json))
        return await beside_the_loop(size, merged_with, current)

    return await request.services.writer.rewrite(
        key,
        compose,
        base_hash,
        author,
        context=context,
        ttl_ms=collection.config.ttl_ms,
        name_of=lambda snapshot: names.of(snapshot.hash, snapshot.ts),
        check=write_condition(request.scope),
    )

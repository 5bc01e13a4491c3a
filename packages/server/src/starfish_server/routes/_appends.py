"""``/pull`` and ``/push`` of append-only documents."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from starfish_http.answers import Answer, Headers, raw_json_answer
from starfish_http.entity_tags import etag_of, is_not_modified
from starfish_protocol.clock import Clock
from starfish_protocol.constants import TS_FIELD
from starfish_server.config.schema import AppendOnlyConfig
from starfish_server.documents._append_log import MAX_AHEAD_MS, AppendPage, PullBounds, element_hash
from starfish_server.documents._beside_the_loop import beside_the_loop
from starfish_server.documents._document_text import PreparedDocument
from starfish_server.documents._errors import (
    NonMonotonicTimestampError,
    PullBoundError,
    TimestampTooFarAheadError,
)
from starfish_server.documents._types import PushSuccess
from starfish_server.requests._author_proof import checked_append_author
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.requests._write_conditions import write_condition
from starfish_server.routes._documents import (
    check_schema,
    intercepted_push,
    pushed_document,
    write_event,
)
from starfish_server.routes._feed import EventFeed
from starfish_server.storage.base import StoreContext

__all__ = ("append_handler", "append_pull_handler", "page_json", "pull_bounds", "read_page")

_LONGEST_INTEGER = 15  # digits; every such number is exact in JavaScript too


def append_pull_handler(collection: ServedCollection, append_only: AppendOnlyConfig) -> Handler:
    """``GET /pull/<path>`` of one append-only collection."""

    async def pull(request: RequestContext) -> Answer:
        context = await request.admit(collection, "pull")
        answered = await request.plugins_answer(context)
        if answered is not None:
            return answered
        bounds = pull_bounds(request.query, append_only, request.services.clock)
        page = await read_page(request, collection, request.rest, bounds, context)
        etag = etag_of(page.hash)
        headers: Headers = [(b"etag", etag)]
        if collection.cache_control is not None:
            headers.append((b"cache-control", collection.cache_control.encode()))
        if is_not_modified(request.scope, etag):
            return Answer(304, b"", headers)
        body = b'{"data":%b,"hash":"%b","timestamp":%d}' % (
            await page_json(append_only, page),
            page.hash.encode(),
            request.services.clock.now_ms(),
        )
        return raw_json_answer(body, headers)

    return pull


async def page_json(append_only: AppendOnlyConfig, page: AppendPage) -> bytes:
    """The ``data`` of a pull."""
    return await beside_the_loop(page.size, orjson.dumps, {append_only.field: page.elements})


async def read_page(
    request: RequestContext,
    collection: ServedCollection,
    document_key: str,
    bounds: PullBounds,
    context: StoreContext,
) -> AppendPage:
    """The elements within bounds; as `AppendLog.read`."""
    return await request.services.log.read(
        collection.store_key(document_key),
        bounds,
        ttl_ms=collection.config.ttl_ms,
        context=context,
    )


def pull_bounds(
    query: Mapping[str, str], append_only: AppendOnlyConfig, clock: Clock
) -> PullBounds:
    """What a pull asks for, within what the collection allows.

    ``limit`` wins over ``last``. Where the collection bounds a pull, more of the newest elements
    are cut to the bound. A checkpoint's elements are never cut: clients take them for all.

    Raises:
        PullBoundError: no bound, or one that is not allowed.
        RequestRefusedError: a bound is not a number.
    """
    checkpoint = _integer(query.get("checkpoint"), "Invalid checkpoint", least=0)
    last = _integer(query.get("last"), "Invalid last", least=0)
    limit = _integer(query.get("limit"), "Invalid limit", least=0)
    last = last if limit is None else limit
    full = query.get("full", "false")
    if full not in {"true", "false"}:
        raise RequestRefusedError(400, "Invalid full parameter")
    bound = append_only.max_pull_limit
    if full == "true":
        if checkpoint is not None or last is not None:
            raise PullBoundError("full_with_bounds")
        if not append_only.allow_full or bound is not None:
            raise PullBoundError("full_not_allowed")
        return PullBounds()
    if checkpoint is None and last is None:
        raise PullBoundError("pull_bound_required")
    age = append_only.max_checkpoint_age_ms
    if checkpoint is not None and age is not None and checkpoint < clock.now_ms() - age:
        raise PullBoundError("checkpoint_too_old")
    if last is not None:
        return PullBounds(checkpoint, last if bound is None else min(last, bound))
    return PullBounds(checkpoint)


def append_handler(
    collection: ServedCollection, append_only: AppendOnlyConfig, feed: EventFeed | None
) -> Handler:
    """``POST /push/<path>`` of one append-only collection."""
    config = collection.config

    async def append(request: RequestContext) -> Answer:
        context = await request.admit(collection, "push", config.max_body_bytes)
        raw, body, document = await pushed_document(request, collection)
        data = document.data
        ts = _pushed_ts(body.get(TS_FIELD))
        author = await beside_the_loop(
            len(raw),
            checked_append_author,
            body,
            request.rest,
            data,
            (await request.caller()).auth,
            required=append_only.require_author_signature,
        )
        if collection.validator is not None:
            await beside_the_loop(len(raw), check_schema, collection.validator, data)
        answered = await intercepted_push(request, context, raw)
        if answered is not None:
            return answered
        if append_only.persist:
            try:
                stored = await request.services.log.append_prepared(
                    collection.store_key(request.rest),
                    document,
                    ts,
                    author,
                    chunk_size=append_only.chunk_size,
                    max_items=append_only.max_items,
                    ttl_ms=config.ttl_ms,
                    context=context,
                    check=write_condition(request.scope),
                )
            except NonMonotonicTimestampError as error:
                # Not when the latest came: a writer need not be a reader.
                raise RequestRefusedError(409, "non_monotonic_timestamp") from error
        else:
            stored = _passed_on(document, ts, request.services.clock.now_ms())
            if feed is not None:
                feed.tell(context, collection.store_key(request.rest), stored, data)
        if request.services.plugins.observes_writes:
            event = write_event(request, context, stored.hash, stored.timestamp, data)
            await request.services.plugins.after_write(event)
        return raw_json_answer(
            b'{"hash":"%b","timestamp":%d}' % (stored.hash.encode(), stored.timestamp)
        )

    return append


def _pushed_ts(ts: object) -> int | None:
    if isinstance(ts, float) and ts.is_integer():
        ts = int(ts)  # 1.0 and 1 are one number in JSON
    if ts is not None and (type(ts) is not int or ts < 0):
        raise RequestRefusedError(400, "ts must be a non-negative integer")
    return ts


def _passed_on(element: PreparedDocument, ts: int | None, now: int) -> PushSuccess:
    """The answer for an element that is not kept: each is the first of its document."""
    if ts is not None and ts > now + MAX_AHEAD_MS:
        raise TimestampTooFarAheadError(ts, now + MAX_AHEAD_MS)
    return PushSuccess(element_hash(element, 1), now if ts is None else ts)


def _integer(text: str | None, problem: str, *, least: int) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > _LONGEST_INTEGER:
        raise RequestRefusedError(400, problem)
    if int(text) < least:
        raise RequestRefusedError(400, problem)
    return int(text)

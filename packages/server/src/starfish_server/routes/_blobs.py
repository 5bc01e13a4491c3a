"""``/pull`` and ``/push`` of binary collections."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass

from starfish_server.requests._answers import (
    Answer,
    Headers,
    bytes_answer,
    error_answer,
    raw_json_answer,
)
from starfish_server.requests._entity_tags import etag_of, is_not_modified
from starfish_server.requests._media_types import checked_media_type
from starfish_server.requests._request_body import header
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.routes._documents import intercepted_push, write_event
from starfish_server.storage.changes import DocumentVersion

__all__ = ("blob_pull_handler", "blob_push_handler")

_HASHED_AT_ONCE = 262_144  # bytes; more of them are hashed beside the event loop
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")
_WRITTEN_AT = ";starfish-written="
# What somebody uploaded must not run as a page of this server's origin.
_INERT: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
]


def blob_push_handler(collection: ServedCollection) -> Handler:
    """``POST /push/<path>`` of one binary collection: the last one to write wins."""
    config = collection.config

    async def push(request: RequestContext) -> Answer:
        context = await request.admit(collection, "push", config.max_body_bytes)
        content_type = checked_media_type(request.scope, config.allowed_mime_types)
        body = await request.body().read()
        answered = await intercepted_push(request, context, body, encoding="latin-1")
        if answered is not None:
            return answered
        digest = await _sha256(body)
        now = request.services.clock.now_ms()
        # Bytes and their type are written in one step, so the time of the write goes with the type.
        await request.services.store.put_bytes(
            collection.store_key(request.rest),
            body,
            content_type=content_type
            if config.ttl_ms is None
            else f"{content_type}{_WRITTEN_AT}{now}",
            cache_control=collection.cache_control,
            context=context.writing(DocumentVersion(digest, now)),
        )
        if request.services.plugins.observes_writes:
            event = write_event(request, context, digest, now, None)
            await request.services.plugins.after_write(event)
        return raw_json_answer(b'{"hash":"%b","timestamp":%d}' % (digest.encode(), now))

    return push


def blob_pull_handler(collection: ServedCollection) -> Handler:
    """``GET /pull/<path>`` of one binary collection."""
    ttl_ms = collection.config.ttl_ms

    async def pull(request: RequestContext) -> Answer:
        context = await request.admit(collection, "pull")
        answered = await request.plugins_answer(context)
        if answered is not None:
            return answered
        key = collection.store_key(request.rest)
        found = await request.services.store.get_bytes(key, context=context)
        if found is None:
            return error_answer(404, "Not found")
        body, content_type = found
        content_type, _, written = content_type.partition(_WRITTEN_AT)
        now = request.services.clock.now_ms()
        if ttl_ms is not None and written.isdigit() and int(written) + ttl_ms <= now:
            return error_answer(404, "Not found")
        etag = etag_of(await _sha256(body))
        headers: Headers = [(b"etag", etag), (b"accept-ranges", b"bytes"), *_INERT]
        if collection.cache_control is not None:
            headers.append((b"cache-control", collection.cache_control.encode()))
        if is_not_modified(request.scope, etag):
            return Answer(304, b"", headers)
        wanted = header(request.scope, b"range")
        condition = header(request.scope, b"if-range")
        if wanted is None or (condition is not None and condition.strip() != etag):
            return bytes_answer(200, body, content_type, headers)
        return _part(body, wanted, content_type, headers)

    return pull


@dataclass(frozen=True, slots=True)
class _Span:
    first: int
    last: int


def _part(body: bytes, wanted: bytes, content_type: str, headers: Headers) -> Answer:
    """One range of a body (RFC 9110, section 14); several at once are answered with all of it."""
    found = _RANGE.fullmatch(wanted.strip())
    if found is None or found[0] == b"bytes=-":
        return bytes_answer(200, body, content_type, headers)
    span = _span(found[1], found[2], len(body))
    if span is None:
        if found[1] and found[2] and int(found[2]) < int(found[1]):
            return bytes_answer(200, body, content_type, headers)
        unsatisfied = (b"content-range", b"bytes */%d" % len(body))
        return error_answer(416, "Range not satisfiable", [*headers, unsatisfied])
    content_range = b"bytes %d-%d/%d" % (span.first, span.last, len(body))
    part = body[span.first : span.last + 1]
    return bytes_answer(206, part, content_type, [*headers, (b"content-range", content_range)])


def _span(first: bytes, last: bytes, size: int) -> _Span | None:
    if not first:
        start, end = max(size - int(last), 0), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    return _Span(start, end) if start <= end else None


async def _sha256(body: bytes) -> str:
    if len(body) > _HASHED_AT_ONCE:
        return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
    return hashlib.sha256(body).hexdigest()

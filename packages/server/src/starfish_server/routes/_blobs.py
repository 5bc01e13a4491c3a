"""``/pull`` and ``/push`` of binary collections.

Hash, size and time of the bytes stand beside them in the store: a ``HEAD``, a 304 and a range cost
what they carry, whatever the size of the whole. Large uploads and downloads pass through in pieces.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace

from starfish_http.answers import Answer, Headers, bytes_answer, raw_json_answer
from starfish_http.entity_tags import etag_of, is_not_modified
from starfish_http.request_body import header
from starfish_server.documents._beside_the_loop import beside_the_loop
from starfish_server.documents._change_records import change_record, recorded
from starfish_server.documents._errors import ContentionError
from starfish_server.requests._answers import StreamedAnswer, error_answer
from starfish_server.requests._media_types import checked_media_type
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.requests._write_conditions import write_condition
from starfish_server.routes._documents import intercepted_push, write_event
from starfish_server.storage.base import StoreContext
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore, write_once
from starfish_server.storage.values import ABSENT, ANY, Match, Metadata, Precondition, Value

__all__ = ("blob_pull_handler", "blob_push_handler", "is_expired_blob", "stored_hash")

_PIECE_BYTES = 1_048_576
"""More than this much is neither held in memory as a whole nor hashed on the event loop."""
_MAX_ATTEMPTS = 16
_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")
# Bytes that somebody uploaded must not run as a page of this server's origin.
_INERT: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox"),
]


def blob_push_handler(collection: ServedCollection) -> Handler:
    """``POST /push/<path>`` of one binary collection: without a condition the last one wins."""
    config = collection.config

    async def push(request: RequestContext) -> Answer:
        context = await request.admit(collection, "push", config.max_body_bytes)
        content_type = checked_media_type(request.scope, config.allowed_mime_types)
        check = write_condition(request.scope)
        key = collection.store_key(request.rest)
        now = request.services.clock.now_ms()
        expires_at = None if config.ttl_ms is None else now + config.ttl_ms
        value = Value(b"", content_type, written_at=now, expires_at=expires_at)
        if request.services.plugins.gates_pushes or _is_short(request):
            body = await request.body().read()
            answered = await intercepted_push(request, context, body, encoding="latin-1")
            if answered is not None:
                return answered
            digest = await beside_the_loop(len(body), _sha256, body)
            value = replace(value, body=body, hash=digest)
            await _write(request.services.store, key, value, check, context)
        else:
            digest = await _write_in_pieces(request, key, value, check, context)
        if request.services.plugins.observes_writes:
            event = write_event(request, context, digest, now, None)
            await request.services.plugins.after_write(event)
        return raw_json_answer(b'{"hash":"%b","timestamp":%d}' % (digest.encode(), now))

    return push


def _is_short(request: RequestContext) -> bool:
    """Whether the body is here already, or announces that it fits in one piece."""
    declared = header(request.scope, b"content-length") or b""
    is_coded = header(request.scope, b"content-encoding") is not None
    fits = declared.isdigit() and int(declared[:20]) <= _PIECE_BYTES and not is_coded
    return fits or not request.body().is_unread


async def _write(
    store: ObjectStore,
    key: str,
    value: Value,
    check: Callable[[str], None] | None,
    context: StoreContext,
) -> None:
    change = change_record(context, value.hash or "", value.written_at or 0)
    for _attempt in range(_MAX_ATTEMPTS):
        when = await _precondition(store, key, check, context)
        try:
            await write_once(store, key, value, when=when, change=change, context=context)
        except PreconditionFailedError:
            continue
        return
    raise ContentionError(key, _MAX_ATTEMPTS)


async def _write_in_pieces(
    request: RequestContext,
    key: str,
    value: Value,
    check: Callable[[str], None] | None,
    context: StoreContext,
) -> str:
    store = request.services.store
    when = await _precondition(store, key, check, context)
    try:
        _, metadata = await store.write_stream(
            key,
            request.body().pieces(),
            value,
            when=when,
            change=lambda hash_, _size: recorded(context, hash_, value.written_at or 0),
            context=context,
        )
    except PreconditionFailedError as error:
        # The body is gone; what the client wanted to replace is not there any more.
        if check is not None:
            check(await stored_hash(store, key, error.current, context))
        raise ContentionError(key, 1) from error
    return metadata.hash or ""


async def _precondition(
    store: ObjectStore, key: str, check: Callable[[str], None] | None, context: StoreContext
) -> Precondition:
    """What a write must find so that its condition holds.

    Raises:
        RequestRefusedError: 412: it does not hold.
    """
    if check is None:
        return ANY
    metadata = await store.stat(key, context=context)
    check(await stored_hash(store, key, metadata, context))
    return ABSENT if metadata is None else Match(metadata.etag)


async def stored_hash(
    store: ObjectStore, key: str, metadata: Metadata | None, context: StoreContext
) -> str:
    """SHA-256 of a stored value; empty where there is none."""
    if metadata is None:
        return ""
    if metadata.hash is not None:
        return metadata.hash
    found = await store.get(key, context=context)
    return "" if found is None else await beside_the_loop(len(found.body), _sha256, found.body)


def blob_pull_handler(collection: ServedCollection) -> Handler:
    """``GET /pull/<path>`` of one binary collection."""
    ttl_ms = collection.config.ttl_ms

    async def pull(request: RequestContext) -> Answer:
        context = await request.admit(collection, "pull")
        answered = await request.plugins_answer(context)
        if answered is not None:
            return answered
        key, store = collection.store_key(request.rest), request.services.store
        metadata = await store.stat(key, context=context)
        if metadata is None or is_expired_blob(metadata, ttl_ms, request.services.clock.now_ms()):
            return error_answer(404, "Not found")
        etag = etag_of(await stored_hash(store, key, metadata, context))
        headers: Headers = [(b"etag", etag), (b"accept-ranges", b"bytes"), *_INERT]
        if collection.cache_control is not None:
            headers.append((b"cache-control", collection.cache_control.encode()))
        if is_not_modified(request.scope, etag):
            return Answer(304, b"", headers)
        return await _content(request, key, metadata, etag=etag, headers=headers, context=context)

    return pull


async def _content(
    request: RequestContext,
    key: str,
    metadata: Metadata,
    *,
    etag: bytes,
    headers: Headers,
    context: StoreContext,
) -> Answer:
    """The bytes of a version, or the part of them that ``Range`` asks for."""
    span, status = _Span(0, metadata.size - 1), 200
    is_get = request.scope["method"] == "GET"  # a range of HEAD has no meaning
    wanted = header(request.scope, b"range")
    condition = header(request.scope, b"if-range")
    if wanted is not None and is_get and (condition is None or condition.strip() == etag):
        part = _part(wanted, metadata.size)
        if part is None:
            unsatisfied = (b"content-range", b"bytes */%d" % metadata.size)
            return error_answer(416, "Range not satisfiable", [*headers, unsatisfied])
        if part.is_asked_for:
            span, status = part, 206
            place = b"bytes %d-%d/%d" % (span.first, span.last, metadata.size)
            headers = [*headers, (b"content-range", place)]
    store, size = request.services.store, span.last - span.first + 1
    pieces = _pieces(store, key, metadata, span, context)
    if not is_get or size > _PIECE_BYTES:
        return StreamedAnswer(status, pieces, size, metadata.content_type, headers)
    body = b"".join([piece async for piece in pieces])
    return bytes_answer(status, body, metadata.content_type, headers)


async def _pieces(
    store: ObjectStore, key: str, metadata: Metadata, span: _Span, context: StoreContext
) -> AsyncGenerator[bytes]:
    """The bytes of a span, of one version.

    Raises:
        StoreError: the store does not answer.
        ContentionError: the value was replaced meanwhile.
    """
    for first in range(span.first, span.last + 1, _PIECE_BYTES):
        last = min(first + _PIECE_BYTES - 1, span.last)
        found = await store.read_range(key, first, last, context=context)
        if found is None or found.metadata.etag != metadata.etag:
            raise ContentionError(key, 1)
        yield found.body


def is_expired_blob(metadata: Metadata, ttl_ms: int | None, now: int) -> bool:
    """Whether bytes read as missing by now."""
    written_at = metadata.written_at
    return ttl_ms is not None and bool(written_at) and written_at + ttl_ms <= now


@dataclass(frozen=True, slots=True)
class _Span:
    first: int
    last: int
    is_asked_for: bool = False


def _part(wanted: bytes, size: int) -> _Span | None:
    """One range of a body (RFC 9110, section 14); several at once are answered with all of it.

    Returns:
        The span; ``None`` when it lies outside.
    """
    whole = _Span(0, size - 1)
    found = _RANGE.fullmatch(wanted.strip())
    if found is None or found[0] == b"bytes=-":
        return whole
    first, last = found[1], found[2]
    if first and last and int(last) < int(first):
        return whole
    if not first:
        start, end = max(size - int(last), 0), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    return _Span(start, end, is_asked_for=True) if start <= end else None


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()

"""``/list``: which documents there are, a page at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starfish_http.answers import Answer, json_answer
from starfish_server.config._path_template import PARAMETER_VALUE
from starfish_server.documents._append_text import Head
from starfish_server.documents._document_text import Snapshot
from starfish_server.documents._errors import DamagedDocumentError
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.storage.base import StoreContext
from starfish_server.storage.object_store import Entry

__all__ = ("DEFAULT_LIMIT", "MAX_LIMIT", "list_handler")

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
_AFTER_EVERY_CHARACTER = "\U0010ffff"
_LOG = logging.getLogger(__name__)


def list_handler(collection: ServedCollection) -> Handler:
    """``GET /list/<path without the last parameter>`` of one collection."""
    last = collection.template.last_parameter or ""

    async def list_items(request: RequestContext) -> Answer:
        if request.rest == "":  # the first segment is a parameter already
            request.rest = "-"
        context = await request.admit(collection, "list")
        limit = _limit(request.query.get("limit"))
        after = request.query.get("after")
        if after is not None and PARAMETER_VALUE.fullmatch(after) is None:
            raise RequestRefusedError(400, "Invalid after parameter")
        prefix = collection.store_key(collection.template.list_prefix(request.params))
        start = (
            None
            if after is None
            else collection.store_key(collection.template.expand({**request.params, last: after}))
        )
        items = await _items(
            request, collection, prefix, start_after=start, wanted=limit + 1, context=context
        )
        return json_answer(200, {"items": items[:limit], "hasMore": len(items) > limit})

    return list_items


async def _items(
    request: RequestContext,
    collection: ServedCollection,
    prefix: str,
    *,
    start_after: str | None,
    wanted: int,
    context: StoreContext,
) -> list[str]:
    store = request.services.store
    reaches = (await request.caller()).auth.allows
    skip = len(collection.store_key(""))
    items: list[str] = []
    while len(items) < wanted:
        entries = await store.scan(prefix, after=start_after, limit=wanted, context=context)
        for entry in entries:
            item = _item(collection, entry.key[skip:], request.params)
            if item is None or not reaches("list", entry.key[skip:]):
                continue
            if not await _is_expired(request, collection, entry, context):
                items.append(item)
        if len(entries) < wanted:
            break
        start_after = entries[-1].key
        if _item(collection, start_after[skip:], request.params) is None:
            # Documents of other collections below this one: past all of them at once.
            below = start_after.find("/", len(prefix))
            if below > 0:
                start_after = start_after[: below + 1] + _AFTER_EVERY_CHARACTER
    return items[:wanted]


def _item(collection: ServedCollection, document_key: str, params: Mapping[str, str]) -> str | None:
    """The last parameter of a key, if it is of this collection and these parameters."""
    found = collection.template.match(document_key)
    if found is None:
        return None
    if any(found[name] != value for name, value in params.items()):
        return None
    return found[collection.template.last_parameter or ""]


async def _is_expired(
    request: RequestContext, collection: ServedCollection, entry: Entry, context: StoreContext
) -> bool:
    ttl_ms = collection.config.ttl_ms
    if ttl_ms is None or entry.metadata.expires_at is not None:
        return False  # the store leaves out what has expired
    written_at: int | None = entry.metadata.written_at
    if not written_at:  # a store of the first contract does not tell
        written_at = await _stored_time(request, collection, entry.key, context)
    return written_at is not None and written_at + ttl_ms <= request.services.clock.now_ms()


async def _stored_time(
    request: RequestContext, collection: ServedCollection, key: str, context: StoreContext
) -> int | None:
    """The time within a document; ``None`` where it cannot be read, 0 where there is none."""
    found = await request.services.store.get(key, context=context)
    if found is None:
        return 0
    if collection.config.is_binary:
        return found.metadata.written_at or None
    kind = Snapshot if collection.config.append_only is None else Head
    try:
        return kind.parse(key, found.body).ts
    except DamagedDocumentError as error:
        _LOG.error("a listing names a damaged document: %s", error)
        return None


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not text.isascii() or not text.isdigit() or not 0 <= int(text[:9]) <= MAX_LIMIT:
        raise RequestRefusedError(400, "Invalid limit parameter")
    return int(text)

"""``/list``: which documents there are, a page at a time.

Callers with a certificate are told the keys further below as well, as the clients of certificates expect:
those of other collections that they may list, named by the rest of their path.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starfish_http.answers import Answer, json_answer
from starfish_http.callers.capabilities import CapabilityCaller
from starfish_http.errors import AuthError
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


def list_handler(collection: ServedCollection, members: Sequence[ServedCollection]) -> Handler:
    """``GET /list/<path without the last parameter>`` of one collection.

    Args:
        collection: that is listed.
        members: the collections of its namespace.
    """
    last = collection.template.last_parameter or ""
    below = _members_below(collection, members)

    async def list_items(request: RequestContext) -> Answer:
        if request.rest == "":  # the first segment is a parameter already
            request.rest = "-"
        context = await request.admit(collection, "list")
        limit = _limit(request.query.get("limit"))
        after = request.query.get("after")
        is_deep = below and isinstance((await request.caller()).auth, CapabilityCaller)
        segments = [] if after is None else after.split("/") if is_deep else [after]
        if not all(map(PARAMETER_VALUE.fullmatch, segments)):
            raise RequestRefusedError(400, "Invalid after parameter")
        prefix = collection.store_key(collection.template.list_prefix(request.params))
        start = (
            None
            if after is None
            else collection.store_key(collection.template.expand({**request.params, last: after}))
        )
        items = await _items(
            request,
            _Listing(collection, below if is_deep else ()),
            prefix,
            start_after=start,
            wanted=limit + 1,
            context=context,
        )
        return json_answer(200, {"items": items[:limit], "hasMore": len(items) > limit})

    return list_items


@dataclass(frozen=True, slots=True)
class _Listing:
    """The collections that one listing tells of."""

    collection: ServedCollection
    below: Sequence[ServedCollection]
    """Those whose documents stand further below."""

    async def item(self, request: RequestContext, document_key: str) -> str | None:
        """The name of a key, ``None`` where the caller is not told of it."""
        collection = self.collection
        item = _item(collection, document_key, request.params)
        caller = await request.caller()
        if item is not None:
            return item if caller.auth.allows("list", document_key) else None
        for member in self.below:
            params = member.template.match(document_key)
            if params is None:
                continue
            try:
                await request.services.access.authorize(
                    caller, member, document_key, params, "list"
                )
            except (AuthError, RequestRefusedError):
                return None
            above = collection.template.list_prefix(request.params)
            return document_key[len(above) :]
        return None


def _members_below(
    collection: ServedCollection, members: Sequence[ServedCollection]
) -> list[ServedCollection]:
    """Collections whose keys continue those of a collection that ends in a whole parameter."""
    template = collection.template.text
    if (
        not template.endswith(f"{{{collection.template.last_parameter}}}")
        or template.rpartition("/")[2][:1] != "{"
    ):
        return []
    depth = template.count("/")
    return [
        member
        for member in members
        if member.template.text.count("/") > depth and not member.config.push_only
    ]


async def _items(
    request: RequestContext,
    listing: _Listing,
    prefix: str,
    *,
    start_after: str | None,
    wanted: int,
    context: StoreContext,
) -> list[str]:
    store = request.services.store
    collection = listing.collection
    skip = len(collection.store_key(""))
    items: list[str] = []
    while len(items) < wanted:
        entries = await store.scan(prefix, after=start_after, limit=wanted, context=context)
        for entry in entries:
            item = await listing.item(request, entry.key[skip:])
            if item is None:
                continue
            if not await _is_expired(request, collection, entry, context):
                items.append(item)
        if len(entries) < wanted:
            break
        start_after = entries[-1].key
        if not listing.below and _item(collection, start_after[skip:], request.params) is None:
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
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_LIMIT:
        raise RequestRefusedError(400, "Invalid limit parameter")
    return int(text)

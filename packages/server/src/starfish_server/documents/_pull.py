"""Read a document."""

from __future__ import annotations

from starfish_protocol.clock import Clock, SystemClock
from starfish_server.documents._document_text import Snapshot
from starfish_server.documents._types import PullResult
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.base import AbstractObjectStore, StoreContext

__all__ = ("pull",)


async def pull(
    store: AbstractObjectStore,
    key: str,
    context: StoreContext | None = None,
    *,
    ttl_ms: int | None = None,
    clock: Clock | None = None,
) -> PullResult:
    """Read the document under a key; an expired one reads as never written.

    The hash is the stored one. A document never written has no data and the empty hash.

    Raises:
        DamagedDocumentError: the stored text is not a document.
        StoreUnavailableError: the store does not answer.
    """
    now = (clock or SystemClock()).now_ms()
    found = await as_object_store(store).get(key, context=context)
    snapshot = None if found is None else Snapshot.parse(key, found.body)
    if snapshot is None or snapshot.is_expired(now, ttl_ms):
        return PullResult(data={}, hash="", timestamp=now)
    document = snapshot.document(key)
    if document.author is None:
        return PullResult(document.data, document.hash, now)
    return PullResult(
        document.data, document.hash, now, document.author.pubkey, document.author.signature
    )

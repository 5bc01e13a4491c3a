"""The keyring beside a document, read as if it were asked for by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starfish_server.documents._document_text import Snapshot
from starfish_server.requests._request_context import RequestContext
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.storage.base import StoreContext

__all__ = ("Keyrings", "read_snapshot", "wants_keyring")


async def read_snapshot(
    request: RequestContext, collection: ServedCollection, document_key: str, context: StoreContext
) -> Snapshot | None:
    """The stored version of a document, ``None`` when it reads as never written."""
    services = request.services
    key = collection.store_key(document_key)
    found = await services.store.get(key, context=context)
    if found is None:
        return None
    body = found.body
    if services.plugins.reads_stored:
        body = await services.plugins.read_stored(key, body)
    snapshot = Snapshot.parse(key, body)
    if snapshot.is_expired(services.clock.now_ms(), collection.config.ttl_ms):
        return None
    services.writer.memory.remember(key, snapshot.hash, snapshot.ts, found.metadata.etag)
    return snapshot


def wants_keyring(query: Mapping[str, str]) -> bool:
    """Whether a pull asks for the keyring as well: ``1`` or ``true`` in any case, and nothing else."""
    return query.get("withKeyring", "").lower() in {"1", "true"}


class Keyrings:
    """Finds the keyrings of documents, which belong to collections of their own.

    Args:
        members: the collections of one namespace.
    """

    def __init__(self, members: Sequence[ServedCollection]) -> None:
        self._documents = [
            member
            for member in members
            if not member.config.is_binary
            and member.config.append_only is None
            and not member.config.push_only
        ]

    async def beside(
        self, request: RequestContext, collection: ServedCollection, now_ms: int
    ) -> bytes:
        """A member of the answer with a comma before it; nothing where the caller may not have it.

        Raises:
            DamagedDocumentError: the keyring cannot be read.
        """
        if collection.keyring is None:
            return b""
        key = collection.keyring.expand(request.params)
        for member in self._documents:
            params = member.template.match(key)
            if params is None:
                continue
            await request.credential()
            context = await request.as_reader(member, key, params)
            if context is None:
                return b""
            snapshot = await read_snapshot(request, member, key, context)
            if snapshot is None:
                return b',"keyring":null'
            view = await request.services.views.of(member, key, snapshot, context)
            return b',"keyring":{"data":%b,"hash":"%b","timestamp":%d}' % (
                view.data_json,
                view.hash.encode(),
                now_ms,
            )
        return b""

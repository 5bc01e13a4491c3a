"""A document as one caller may see it.

The hash of a document covers all of its fields. Shown to a caller from whom some are hidden, it
would confirm any guess at them, and so would the author's signature. Such a caller gets an opaque
token wherever a version appears: it is keyed with a secret of the store, new with each version,
and taken back as ``baseHash``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import orjson

from starfish_http.entity_tags import etag_of
from starfish_server.documents._beside_the_loop import beside_the_loop
from starfish_server.documents._document_text import Snapshot, author_fields
from starfish_server.documents._store_secret import StoreSecret
from starfish_server.requests._field_permissions import hidden_fields
from starfish_server.requests._served_collection import ServedCollection
from starfish_server.storage.base import StoreContext

__all__ = ("VersionNames", "View", "Views")


@dataclass(frozen=True, slots=True)
class View:
    """The parts of an answer that tell of a document."""

    hash: str
    """The version, as the caller knows it; empty for a document never written."""
    data_json: bytes
    author: bytes
    """Author fields with a comma before them, or nothing."""

    @property
    def etag(self) -> bytes:
        """The entity tag of this version in this view."""
        return etag_of(self.hash)


_NEVER_WRITTEN = View("", b"{}", b"")


@dataclass(frozen=True, slots=True)
class VersionNames:
    """How the versions of one document are called for one caller.

    Args:
        key: where the document is stored.
        hidden: the fields that the caller may not see.
        secret: of the store; not needed when nothing is hidden.
    """

    key: str
    hidden: Collection[str]
    secret: bytes

    def of(self, hash_: str, ts: int) -> str:
        """The name of the version with this hash, written at this time."""
        if not self.hidden:
            return hash_
        # Another view of a version is another representation, and needs a name of its own.
        text = "\n".join((self.key, str(ts), hash_, *sorted(self.hidden)))
        return hashlib.blake2b(text.encode(), key=self.secret, digest_size=32).hexdigest()


class Views:
    """Makes views of the documents of one store."""

    def __init__(self, secret: StoreSecret) -> None:
        self._secret = secret

    async def names(
        self, collection: ServedCollection, key: str, context: StoreContext
    ) -> VersionNames:
        """How the versions of a document are called for a caller.

        Raises:
            StoreUnavailableError: the secret cannot be read.
        """
        hidden: frozenset[str] = frozenset()
        if collection.hidden_fields:
            hidden = hidden_fields(collection, context)
        secret = await self._secret.derived("document versions") if hidden else b""
        return VersionNames(key, hidden, secret)

    async def of(
        self,
        collection: ServedCollection,
        document_key: str,
        snapshot: Snapshot | None,
        context: StoreContext,
    ) -> View:
        """The view of a stored version.

        Raises:
            DamagedDocumentError: the stored ``data`` is not JSON.
            StoreUnavailableError: the secret cannot be read.
        """
        if snapshot is None:
            return _NEVER_WRITTEN
        if collection.hidden_fields:
            key = collection.store_key(document_key)
            names = await self.names(collection, key, context)
            if names.hidden:
                size = len(snapshot.data_json)
                visible = await beside_the_loop(size, _visible_json, snapshot, names)
                return View(names.of(snapshot.hash, snapshot.ts), visible, b"")
        return View(snapshot.hash, snapshot.data_json, author_fields(snapshot.author))


def _visible_json(snapshot: Snapshot, names: VersionNames) -> bytes:
    data = snapshot.document(names.key).data
    return orjson.dumps({name: data[name] for name in data if name not in names.hidden})

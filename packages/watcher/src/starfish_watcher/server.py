"""A document server's writes as events: extra ``server``.

Rule: the server is not imported; the plugin contract is all that is shared.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from typing import Any, Final

from blake3 import blake3

from starfish_protocol.plugins import ServerPlugin, WriteEvent
from starfish_watcher._limits import MAX_COORDINATE_BYTES
from starfish_watcher._model.coordinate import Coordinate
from starfish_watcher._model.event_kind import EventKind
from starfish_watcher._store import EventStore
from starfish_watcher.errors import IdempotencyConflictError

__all__ = ("DOCUMENT_WRITTEN", "PLUGIN_NAME", "create_event_log_plugin", "document_entity")

logger = logging.getLogger(__name__)
PLUGIN_NAME: Final = "starfish-event-log"
DOCUMENT_WRITTEN: Final = EventKind.custom(0x1, 0x001)
"""The kind of a write where none is chosen."""
_ESCAPED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f:|=%\ud800-\udfff]|\.(?=\.)")


def document_entity(document_key: str) -> str:
    """The entity of a document: folders are namespaces, and two keys never share an entity.

    What an entity may not contain is written as ``%XX``; a key that is too long is its first
    folder and a hash.

    Examples:
        >>> document_entity("notes/ada/7"), document_entity("a=b/../c:d")
        ('notes:ada:7', 'a%3Db:%2E.:c%3Ad')
    """
    return _name(document_key)


def _name(text: str) -> str:
    name = _ESCAPED.sub(_escape, text).replace("/", ":")
    if len(name.encode()) <= MAX_COORDINATE_BYTES:
        return name or "%%"
    first = name.partition(":")[0]
    digest = blake3(text.encode(errors="surrogatepass")).hexdigest()
    # No escape begins with '%%', so no short name looks like this.
    return f"{first if len(first.encode()) <= 512 else ''}:%%{digest}"


def _escape(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode(errors="surrogatepass"))


def _document_key(event: WriteEvent) -> str:
    if event.document_key is not None:
        return event.document_key
    values = (value for _, value in sorted(event.params.items()))
    return "/".join((event.collection, *values))


def _namespace_or_collection(event: WriteEvent) -> str:
    return event.collection if event.namespace is None else event.namespace


def create_event_log_plugin(
    store: EventStore,
    *,
    kind: EventKind | Callable[[WriteEvent], EventKind] = DOCUMENT_WRITTEN,
    scope: Callable[[WriteEvent], str] = _namespace_or_collection,
    collections: Collection[str] | None = None,
    include_identity: bool = False,
) -> ServerPlugin:
    """Make the plugin that appends an event for each write of a server.

    A push returns after its event is in ``store``, as durable as that store's default says. The
    same write, by document key, hash and timestamp, is appended once, however often it is repeated. A write
    whose event could not be appended is stored all the same: the server logs the error.

    The entity is `document_entity` of the document's key, the payload a map of ``collection``,
    ``document_key``, ``hash``, ``timestamp`` (milliseconds), ``params`` and ``namespace``; never
    the document.

    Args:
        store: Where the events go; its owner closes it, after the server has stopped.
        kind: The events' kind, or what gives it.
        scope: Gives the events' scope: the namespace, or the collection where there is none.
        collections: Names of those whose writes become events; all when ``None``.
        include_identity: Whether the payload says who wrote, as ``identity``: personal data.

    Examples:
        >>> with EventStore.memory() as store:
        ...     create_event_log_plugin(store, collections=["notes"]).name
        'starfish-event-log'
    """
    wanted = None if collections is None else frozenset(collections)

    async def after_write(event: WriteEvent) -> None:
        if wanted is not None and event.collection not in wanted:
            return
        key = _document_key(event)
        payload: dict[str, Any] = {
            "collection": event.collection,
            "document_key": key,
            "hash": event.hash,
            "timestamp": event.timestamp,
            "params": dict(event.params),
            "namespace": event.namespace,
        }
        if include_identity:
            payload["identity"] = event.identity
        try:
            # Handed to the store's writer before anything is awaited: a request that is cancelled
            # from here on has left its event.
            await store.aio.append(
                Coordinate(document_entity(key), _name(scope(event))),
                kind if isinstance(kind, EventKind) else kind(event),
                payload,
                idempotency_key=_idempotency_key(key, event),
            )
        except IdempotencyConflictError as error:
            # Appended before, by a plugin with other options.
            logger.info("write of %s is event %d already", event.collection, error.sequence)

    return ServerPlugin(PLUGIN_NAME, after_write=after_write)


def _idempotency_key(key: str, event: WriteEvent) -> str:
    parts = (event.namespace or "", event.collection, key, event.hash, str(event.timestamp))
    encoded = [part.encode(errors="surrogatepass") for part in parts]
    framed = b"".join(len(part).to_bytes(4) + part for part in encoded)
    return f"write:{blake3(framed).hexdigest()}"

"""The source documents as they are stored now, for a rebuild.

Rule: a document that cannot be read back as a write is counted, never skipped in silence: an
entry that may be its own must not be taken for an orphan.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from starfish_projection._projected_write import stored_write
from starfish_projection._store import ListStore
from starfish_projection.errors import UnknownSourceError
from starfish_protocol.clock import Clock
from starfish_protocol.plugins import WriteEvent

__all__ = ("RebuildConfig", "SourceCollection", "find_sources", "read_sources")

_READS_AT_ONCE = 32
"""Documents that are fetched together: enough to hide a store's latency, few enough to hold."""


class _Collection(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def storage_path(self) -> str: ...
    @property
    def ttl_ms(self) -> int | None: ...
    @property
    def append_only(self) -> object | None: ...
    @property
    def bundle(self) -> str | None: ...
    @property
    def is_binary(self) -> bool: ...


class _Namespace(Protocol):
    @property
    def collections(self) -> Sequence[_Collection]: ...


class RebuildConfig(Protocol):
    """What a rebuild needs of a `starfish_server.config.schema.SyncConfig`."""

    @property
    def collections(self) -> Sequence[_Collection]:
        """The collections outside of namespaces."""
        ...

    @property
    def namespaces(self) -> Mapping[str, _Namespace] | None:
        """The others, by namespace."""
        ...


@dataclass(frozen=True, slots=True)
class SourceCollection:
    """One collection whose documents feed a projection."""

    name: str
    path: str
    """Its path template, without the namespace."""
    namespace: str | None
    ttl_ms: int | None


def find_sources(config: RebuildConfig, names: Iterable[str]) -> list[SourceCollection]:
    """The collections of these names, in every namespace.

    Raises:
        UnknownSourceError: a name belongs to no collection whose documents can be read back:
            binary and append-only ones keep too little of a write.
    """
    every = chain(
        ((None, collection) for collection in config.collections),
        (
            (namespace, collection)
            for namespace, held in (config.namespaces or {}).items()
            for collection in held.collections
        ),
    )
    found = [
        SourceCollection(collection.name, _path(collection), namespace, collection.ttl_ms)
        for namespace, collection in every
        if not collection.is_binary and collection.append_only is None
    ]
    known = sorted({source.name for source in found})
    wanted = set(names)
    for name in sorted(wanted):
        if name not in known:
            raise UnknownSourceError(name, known)
    return [source for source in found if source.name in wanted]


def _path(collection: _Collection) -> str:
    """Where its documents are: members of a bundle have one path and are told apart by name."""
    if collection.bundle is None:
        return collection.storage_path
    return f"{collection.storage_path}/{collection.name}"


async def read_sources(
    store: ListStore, sources: Sequence[SourceCollection], clock: Clock
) -> AsyncIterator[tuple[int, int, WriteEvent | None]]:
    """Each source document as the write that left it, ``None`` for one that cannot be read so.

    Yields:
        How many documents were read so far, how many there are, and the write. Documents that
        expired or were deleted meanwhile are counted but come as no write at all.
    """
    from starfish_server.config import PathTemplate

    found: list[tuple[str, WriteEvent, int | None]] = []
    for source in sources:
        template = PathTemplate.parse(source.path)
        folder = "" if source.namespace is None else f"{source.namespace}/"
        for key in await store.list_keys(folder + template.text.split("{", 1)[0]):
            document_key = key[len(folder) :]
            params = template.match(document_key)
            if params is not None:
                event = WriteEvent(
                    source.name,
                    hash="",
                    timestamp=0,
                    params=params,
                    namespace=source.namespace,
                    document_key=document_key,
                )
                found.append((key, event, source.ttl_ms))
    for start in range(0, len(found), _READS_AT_ONCE):
        chunk = found[start : start + _READS_AT_ONCE]
        texts = await asyncio.gather(*(store.get_string(key) for key, _, _ in chunk))
        for offset, (text, (_, event, ttl_ms)) in enumerate(zip(texts, chunk, strict=True), 1):
            if text is None:
                continue
            write = stored_write(text, event)
            if (
                write is not None
                and ttl_ms is not None
                and write.timestamp + ttl_ms <= clock.now_ms()
            ):
                continue
            yield start + offset, len(found), write

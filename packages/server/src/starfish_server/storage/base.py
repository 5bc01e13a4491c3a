"""What a store is.

Rule 1: a key holds one value, text or bytes with a content type. Rule 2: a store that implements
`AbstractObjectStore.get_with_etag` and `AbstractObjectStore.put_if_match` makes the comparison
and the write one step for every process that shares the storage; etags are opaque and never
come back for another value, not even when the value does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starfish_server.storage.changes import ChangeLog, DocumentVersion

__all__ = ("AbstractObjectStore", "StoreContext", "has_compare_and_swap")


@dataclass(frozen=True, slots=True)
class StoreContext:
    """On whose behalf a store is called; stores may log or route by it, never decide access."""

    collection: str
    params: Mapping[str, str]
    identity: str | None
    roles: tuple[str, ...]
    action: str
    """``pull``, ``push`` or ``list``."""
    namespace: str | None = None
    version: DocumentVersion | None = None
    """Set for the one write of a push that makes a document what it is from then on; a store with
    a change log records it in the same step."""

    def writing(self, version: DocumentVersion) -> StoreContext:
        """The context of that write."""
        return replace(self, version=version)


class AbstractObjectStore(ABC):
    """A key-value store of texts and bytes.

    A subclass must implement the five abstract calls. Without the compare-and-swap pair it works
    within one process only; without the bytes pair, binary collections are refused at start-up.
    """

    @property
    def changes(self) -> ChangeLog | None:
        """The log of the writes that named a `StoreContext.version`, where the store keeps one."""
        return None

    @abstractmethod
    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        """The text under a key, ``None`` when there is none."""

    @abstractmethod
    async def put(
        self,
        key: str,
        body: str,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        """Set the text under a key, whatever was there; durable when this returns."""

    @abstractmethod
    async def list_keys(
        self,
        prefix: str,
        *,
        start_after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> list[str]:
        """Keys that begin with ``prefix``, sorted by code point, complete.

        Args:
            prefix: what a key begins with; the empty string for all.
            start_after: only keys greater than this one.
            limit: at most so many; ``None`` for all.
            context: on whose behalf.
        """

    @abstractmethod
    async def delete(self, key: str, *, context: StoreContext | None = None) -> None:
        """Remove a key; no error when it is absent."""

    @abstractmethod
    async def delete_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> None:
        """Remove several keys."""

    async def get_bytes(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[bytes, str] | None:
        """Bytes and content type under a key, ``None`` when there are none."""
        raise NotImplementedError(f"{type(self).__name__} stores no bytes")

    async def put_bytes(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        """Set the bytes under a key, whatever was there; durable when this returns."""
        raise NotImplementedError(f"{type(self).__name__} stores no bytes")

    async def get_with_etag(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[str, str] | None:
        """The text under a key and the etag of that version, ``None`` when there is none."""
        raise NotImplementedError(f"{type(self).__name__} has no compare-and-swap")

    async def put_if_match(
        self,
        key: str,
        body: str,
        expected_etag: str | None,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> str | None:
        """Set the text under a key if its version is still the expected one.

        Args:
            key: where to write.
            body: what to write.
            expected_etag: etag of the version that is to be replaced; ``None`` when the key must
                not exist yet.
            content_type: kept with the value where the storage keeps such things.
            cache_control: likewise.
            context: on whose behalf.

        Returns:
            The new version's etag, durable when this returns; ``None``, with nothing written,
            when another version is there.
        """
        raise NotImplementedError(f"{type(self).__name__} has no compare-and-swap")

    async def close(self) -> None:  # noqa: B027  a store that holds nothing has nothing to do
        """Finish the accepted calls and release everything; calling it twice is harmless."""


def has_compare_and_swap(store: AbstractObjectStore) -> bool:
    """Whether a store's conditional writes hold between processes."""
    cls = type(store)
    return (
        cls.get_with_etag is not AbstractObjectStore.get_with_etag
        and cls.put_if_match is not AbstractObjectStore.put_if_match
    )

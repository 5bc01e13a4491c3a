"""The few calls of a store that lists need.

Rule: the server is not imported here; its `AbstractObjectStore` has these calls, and so may a
store of somebody who never installed a web framework.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Protocol

__all__ = ("ListStore", "TargetStore")

_CONTENT_TYPE = "application/json"

logger = logging.getLogger(__name__)


class ListStore(Protocol):
    """A store as this package uses it; `starfish_server.storage.base` says what each call promises."""

    async def get_string(self, key: str, /) -> str | None:
        """The text under a key, ``None`` when there is none."""
        ...

    async def put(self, key: str, body: str, /, *, content_type: str | None = None) -> None:
        """Set the text under a key, whatever was there."""
        ...

    async def list_keys(self, prefix: str, /) -> list[str]:
        """Keys that begin with ``prefix``, sorted."""
        ...

    async def get_with_etag(self, key: str, /) -> tuple[str, str] | None:
        """The text under a key and the etag of that version."""
        ...

    async def put_if_match(
        self,
        key: str,
        body: str,
        expected_etag: str | None,
        /,
        *,
        content_type: str | None = None,
    ) -> str | None:
        """Set the text if its version is still the expected one; the new etag, or ``None``."""
        ...


class TargetStore:
    """Reads and conditionally writes list documents in whatever store there is.

    A store without compare-and-swap gets read, compare, write instead. That holds only while this
    object is the only writer of the lists, so it says so once in the log.
    """

    def __init__(self, store: ListStore) -> None:
        self._store = store
        self._compare_and_swap = True

    async def read(self, key: str) -> tuple[str, str] | None:
        """The text under a key and its etag."""
        if self._compare_and_swap:
            try:
                return await self._store.get_with_etag(key)
            except NotImplementedError:
                self._fall_back()
        text = await self._store.get_string(key)
        return None if text is None else (text, _content_etag(text))

    async def write(self, key: str, body: str, expected_etag: str | None) -> str | None:
        """Set the text under a key if it is still the expected version; the new etag or ``None``."""
        if self._compare_and_swap:
            try:
                return await self._store.put_if_match(
                    key, body, expected_etag, content_type=_CONTENT_TYPE
                )
            except NotImplementedError:
                self._fall_back()
        text = await self._store.get_string(key)
        if (None if text is None else _content_etag(text)) != expected_etag:
            return None
        await self._store.put(key, body, content_type=_CONTENT_TYPE)
        return _content_etag(body)

    def _fall_back(self) -> None:
        if self._compare_and_swap:
            self._compare_and_swap = False
            logger.warning(
                "%s has no compare-and-swap: lists stay whole only while one process writes them",
                type(self._store).__name__,
            )


def _content_etag(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

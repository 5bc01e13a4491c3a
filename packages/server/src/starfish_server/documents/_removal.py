"""Remove a document if it is still the version that the caller saw; the store decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starfish_server.documents._change_records import recorded
from starfish_server.documents._errors import ContentionError
from starfish_server.storage.base import StoreContext
from starfish_server.storage.errors import OutcomeUnknownError, PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore
from starfish_server.storage.values import Match

__all__ = ("StoredVersion", "remove_document")

_MAX_ATTEMPTS = 16


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """The version of a document that a store holds."""

    name: str
    """How the caller knows it: its hash, or an opaque token."""
    etag: str
    """How the store knows it."""


async def remove_document(
    store: ObjectStore,
    key: str,
    ts: int,
    *,
    current: Callable[[], Awaitable[StoredVersion | None]],
    check: Callable[[str], None],
    context: StoreContext,
) -> bool:
    """Remove the very version that ``check`` agrees to; a tombstone is recorded in the same step.

    Args:
        store: where the document is.
        key: of the document.
        ts: time of the removal, milliseconds since the epoch.
        current: reads the stored version, ``None`` where the document reads as never written; called once an attempt.
        check: raises when it is given the name of a version that must stay; the empty string for none.
        context: on whose behalf.

    Returns:
        Whether there was a document.

    Raises:
        ContentionError: writers were faster again and again.
        OutcomeUnknownError: the answer was lost and another version is there now.
        StoreUnavailableError: the store does not answer.
    """
    change = recorded(context, "", ts)
    for _attempt in range(_MAX_ATTEMPTS):
        found = await current()
        check("" if found is None else found.name)
        if found is None:
            return False
        try:
            await store.remove(key, when=Match(found.etag), change=change, context=context)
        except PreconditionFailedError:
            continue
        except OutcomeUnknownError:
            there = await store.stat(key, context=context)
            if there is None:
                return True
            if there.etag != found.etag:
                raise
            continue
        return True
    raise ContentionError(key, _MAX_ATTEMPTS)

"""The line of the change log that a write of a document leaves."""

from __future__ import annotations

from starfish_server.storage.base import StoreContext
from starfish_server.storage.changes import ChangeRecord

__all__ = ("change_record", "recorded")


def change_record(context: StoreContext | None, hash_: str, ts: int) -> ChangeRecord | None:
    """The record of a write on behalf of a request; ``None`` where nobody asked for one."""
    return None if context is None else recorded(context, hash_, ts)


def recorded(context: StoreContext, hash_: str, ts: int) -> ChangeRecord:
    """The record of a write on behalf of a request."""
    return ChangeRecord(
        context.collection,
        context.params,
        hash_,
        ts,
        namespace=context.namespace,
        identity=context.identity,
    )

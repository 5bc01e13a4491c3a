"""A store's change log, as far as this package uses it.

Rule: the server is not imported here; `starfish_server.storage.changes` says what each call
promises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from starfish_projection._store import ListStore
from starfish_protocol.errors import StarfishError

__all__ = ("LoggedChange", "StoreLog", "is_lost_position", "log_of")


class LoggedChange(Protocol):
    """One write or delete of one document."""

    @property
    def sequence(self) -> int: ...
    @property
    def collection(self) -> str: ...
    @property
    def params(self) -> Mapping[str, str]: ...
    @property
    def key(self) -> str: ...
    @property
    def hash(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def namespace(self) -> str | None: ...
    @property
    def identity(self) -> str | None: ...
    @property
    def is_deleted(self) -> bool: ...


class LoggedPage(Protocol):
    """Some changes in order."""

    @property
    def changes(self) -> Sequence[LoggedChange]: ...
    @property
    def next(self) -> str: ...
    @property
    def is_end(self) -> bool: ...


class StoreLog(Protocol):
    """The changes that a store has recorded."""

    async def read(self, after: str | None, limit: int, /) -> LoggedPage: ...
    async def last_sequence(self, *, wait_after: int | None = None, timeout: float = 0) -> int: ...


def log_of(store: ListStore) -> StoreLog | None:
    """The log of a store, where it keeps one."""
    return cast("StoreLog | None", getattr(store, "changes", None))


def is_lost_position(error: StarfishError, position: str | None) -> bool:
    """Whether an error says that the log cannot be followed from that very position."""
    return position is not None and getattr(error, "position", None) == position

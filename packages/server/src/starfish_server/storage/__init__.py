"""Where documents live: the contract and the stores that keep it."""

from starfish_server.storage.base import AbstractObjectStore, StoreContext, has_compare_and_swap
from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore

__all__ = (
    "AbstractObjectStore",
    "FilesystemObjectStore",
    "MemoryObjectStore",
    "SqliteObjectStore",
    "StoreContext",
    "has_compare_and_swap",
)

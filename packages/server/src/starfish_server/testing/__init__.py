"""What others need to test their own stores, and code that stores let down; needs pytest."""

from starfish_server.testing.change_log_contract import ChangeLogContract
from starfish_server.testing.faulty_store import FaultyStore, StoreCall
from starfish_server.testing.object_store_contract import ObjectStoreContract
from starfish_server.testing.persistent_store_contract import OpenStore, PersistentStoreContract
from starfish_server.testing.store_contract import LEGAL_KEYS, REFUSED_KEYS, StoreContract

__all__ = (
    "LEGAL_KEYS",
    "REFUSED_KEYS",
    "ChangeLogContract",
    "FaultyStore",
    "ObjectStoreContract",
    "OpenStore",
    "PersistentStoreContract",
    "StoreCall",
    "StoreContract",
)

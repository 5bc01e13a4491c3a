"""Contracts for stores of your own, and a store that fails on purpose; needs the extra ``testing``."""

try:
    from starfish_server.testing.change_log_contract import ChangeLogContract
    from starfish_server.testing.faulty_store import FaultyStore, StoreCall
    from starfish_server.testing.object_store_contract import ObjectStoreContract
    from starfish_server.testing.persistent_store_contract import OpenStore, PersistentStoreContract
    from starfish_server.testing.store_contract import LEGAL_KEYS, REFUSED_KEYS, StoreContract
except ImportError as error:
    if error.name is None or error.name.startswith("starfish_"):
        raise
    message = (
        "starfish_server.testing needs the extra testing: "
        'pip install --find-links dist "starfish-server[testing]"'
    )
    raise ImportError(message) from error

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

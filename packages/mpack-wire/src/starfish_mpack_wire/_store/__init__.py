"""The local store: packs as they came, refs by compare-and-swap, a catalogue that can be made again."""

from starfish_mpack_wire._store.local_store import LocalStore
from starfish_mpack_wire._store.maintenance import RepackReport
from starfish_mpack_wire._store.state import StoreState
from starfish_mpack_wire._store.verify import VerifyReport

__all__ = ("LocalStore", "RepackReport", "StoreState", "VerifyReport")

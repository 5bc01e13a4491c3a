"""The local store: packs as they came, refs by compare-and-swap, a catalogue that can be made again."""

from starfish_mpack_wire.store.local_store import LocalStore
from starfish_mpack_wire.store.maintenance import RepackReport, VerifyReport
from starfish_mpack_wire.store.state import StoreState

__all__ = ("LocalStore", "RepackReport", "StoreState", "VerifyReport")

"""What others need to test their own stores, and code that stores let down; needs pytest."""

from starfish_server.testing.store_contract import StoreContract

__all__ = ("StoreContract",)

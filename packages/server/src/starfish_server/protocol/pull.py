"""Read a document from a store."""

from starfish_server.documents._pull import pull

__all__ = ("pull",)

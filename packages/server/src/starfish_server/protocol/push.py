"""Write a document to a store if it is still the version that the writer saw."""

from starfish_server.documents._push import push

__all__ = ("push",)

"""A FastAPI application that reaches a sync router by the shortest way."""

from starfish_server.mounting._application import SyncFastAPI

__all__ = ("SyncFastAPI",)

"""Make a router of a configuration and a store."""

from starfish_server.auth._result import AuthResult
from starfish_server.mounting._sync_router import SyncRouterOptions, create_sync_router

__all__ = ("AuthResult", "SyncRouterOptions", "create_sync_router")

"""The HTTP face: a FastAPI router over a store."""

from starfish_server.router.application import SyncFastAPI
from starfish_server.router.route_builder import AuthResult, SyncRouterOptions, create_sync_router

__all__ = ("AuthResult", "SyncFastAPI", "SyncRouterOptions", "create_sync_router")

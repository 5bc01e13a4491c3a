"""The HTTP face: a FastAPI router over a store."""

from starfish_server.router.route_builder import AuthResult, SyncRouterOptions, create_sync_router

__all__ = ("AuthResult", "SyncRouterOptions", "create_sync_router")

"""The registry over HTTP; needs the extra ``http``."""

from starfish_artifact_registry.http.access import Access, Authenticator, Authorizer
from starfish_artifact_registry.http.limits import HttpLimits
from starfish_artifact_registry.http.router import create_registry_router

__all__ = ("Access", "Authenticator", "Authorizer", "HttpLimits", "create_registry_router")

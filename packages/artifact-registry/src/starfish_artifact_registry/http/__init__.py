"""The registry over HTTP; needs the extra ``http``."""

try:
    from starfish_artifact_registry.http._access import ROLES, Access, Authorizer, by_roles
    from starfish_artifact_registry.http._application import create_registry_app
    from starfish_artifact_registry.http._limits import HttpLimits
    from starfish_artifact_registry.http._router import create_registry_router
    from starfish_artifact_registry.http._tree_routes import NoteSigner
    from starfish_http.callers import anyone
except ImportError as error:
    if error.name is None or error.name.startswith("starfish_"):
        raise
    message = (
        "starfish_artifact_registry.http needs the extra http: "
        'pip install --find-links dist "starfish-artifact-registry[http]"'
    )
    raise ImportError(message) from error

__all__ = (
    "ROLES",
    "Access",
    "Authorizer",
    "HttpLimits",
    "NoteSigner",
    "anyone",
    "by_roles",
    "create_registry_app",
    "create_registry_router",
)

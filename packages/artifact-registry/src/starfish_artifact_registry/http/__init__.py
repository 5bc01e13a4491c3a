"""The registry over HTTP; needs the extra ``http``."""

try:
    from starfish_artifact_registry.http._access import Access, Authenticator, Authorizer
    from starfish_artifact_registry.http._application import create_registry_app
    from starfish_artifact_registry.http._limits import HttpLimits
    from starfish_artifact_registry.http._router import create_registry_router
except ImportError as error:
    if error.name is None or error.name.startswith("starfish_"):
        raise
    message = (
        "starfish_artifact_registry.http needs the extra http: "
        'pip install "starfish-artifact-registry[http]"'
    )
    raise ImportError(message) from error

__all__ = (
    "Access",
    "Authenticator",
    "Authorizer",
    "HttpLimits",
    "create_registry_app",
    "create_registry_router",
)

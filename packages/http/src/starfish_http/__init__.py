"""A bounded HTTP edge for ASGI applications: connections, callers, refusals, orderly stops."""

from starfish_http.callers import Authenticate, Authenticator, Caller, TokenFile, anyone
from starfish_http.errors import AuthError, HttpError, RequestRefusedError, TokenFileError

__all__ = (
    "AuthError",
    "Authenticate",
    "Authenticator",
    "Caller",
    "HttpError",
    "RequestRefusedError",
    "TokenFile",
    "TokenFileError",
    "anyone",
)

__version__ = "0.1.0"

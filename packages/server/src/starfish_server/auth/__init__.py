"""Who a caller is: what a role resolver answers, and bearer tokens from a file."""

from starfish_server.auth.errors import AuthError
from starfish_server.auth.result import AuthResult, Presenter

__all__ = ("AuthError", "AuthResult", "Presenter")

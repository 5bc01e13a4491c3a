"""Who a caller is: what a role resolver answers, and bearer tokens from a file."""

from starfish_server.auth.bearer import create_token_role_resolver
from starfish_server.auth.errors import AuthError, TokenFileError
from starfish_server.auth.result import AuthResult, Presenter, RoleResolver
from starfish_server.auth.token_file import TokenFile, TokenRecord

__all__ = (
    "AuthError",
    "AuthResult",
    "Presenter",
    "RoleResolver",
    "TokenFile",
    "TokenFileError",
    "TokenRecord",
    "create_token_role_resolver",
)

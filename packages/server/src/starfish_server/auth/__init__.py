"""Who a caller is: the answer of a role resolver, and bearer tokens from a file.

`TokenFile`, `TokenRecord`, `create_token_role_resolver`, `AuthError` and `TokenFileError` are those of
`starfish_http`, so that one token file and one resolver serve every HTTP face of Starfish.
"""

from starfish_http.callers import TokenFile, TokenRecord, create_token_role_resolver
from starfish_http.errors import AuthError, TokenFileError
from starfish_server.auth._result import AuthResult, Presenter, RoleResolver

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

"""Who a caller is: one kind of caller, one token file and one contract for every HTTP face."""

from starfish_http.callers._bearer import (
    TokenAuthenticator,
    bearer_token,
    by_token,
    create_token_role_resolver,
)
from starfish_http.callers._caller import Authenticate, Authenticator, Caller, anyone
from starfish_http.callers._combined import CombinedAuthenticator
from starfish_http.callers._forms import as_authenticator, by_request
from starfish_http.callers._scope import scope_reaches
from starfish_http.callers._token_file import TokenFile
from starfish_http.callers._token_text import TokenRecord

__all__ = (
    "Authenticate",
    "Authenticator",
    "Caller",
    "CombinedAuthenticator",
    "TokenAuthenticator",
    "TokenFile",
    "TokenRecord",
    "anyone",
    "as_authenticator",
    "bearer_token",
    "by_request",
    "by_token",
    "create_token_role_resolver",
    "scope_reaches",
)

"""Read by the type checker, never run: the public surface as a user sees it."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from starlette.requests import Request

from starfish_http import Authenticate, Authenticator, Caller, TokenFile, anyone
from starfish_http.callers import (
    TokenAuthenticator,
    TokenRecord,
    as_authenticator,
    create_token_role_resolver,
)


async def callers(request: Request) -> None:
    tokens = TokenFile(Path("tokens.json"))
    assert_type(tokens.create("ada", roles=["staff"]), str)
    assert_type(tokens.identify("sft_"), TokenRecord | None)
    authenticate = create_token_role_resolver(tokens)
    assert_type(authenticate, TokenAuthenticator)
    fits: Authenticate = authenticate
    assert_type(await fits(request), Caller)
    assert_type(anyone, Authenticator)
    assert_type(as_authenticator(fits, plain="request"), Authenticator)
    assert_type((await anyone(request)).allows("pull", "notes/1"), bool)

"""Bearer tokens (RFC 6750) as a role resolver."""

from __future__ import annotations

import asyncio
import logging

from starlette.requests import Request

from starfish_protocol.clock import Clock, SystemClock
from starfish_protocol.constants import HEADER_AUTHORIZATION
from starfish_server.auth.errors import AuthError, TokenFileError
from starfish_server.auth.result import AuthResult, Presenter, RoleResolver
from starfish_server.auth.token_file import TokenFile

__all__ = ("create_token_role_resolver",)

_logger = logging.getLogger(__name__)


def create_token_role_resolver(
    tokens: TokenFile, *, clock: Clock | None = None, refresh_ms: int = 1_000
) -> RoleResolver:
    """A role resolver that knows callers by the tokens of a file.

    A request without ``Authorization`` is anonymous, so that public collections need no token;
    for one with a wrong or expired token the resolver raises `AuthError`. A token that is created,
    revoked or lost with its file is noticed ``refresh_ms`` later at most, at the next request that
    carries one.

    Args:
        tokens: the file.
        clock: what expiry and the next look at the file are measured by.
        refresh_ms: how long a look at the file lasts.
    """
    return _TokenResolver(tokens, clock or SystemClock(), refresh_ms).resolve


class _TokenResolver:
    def __init__(self, tokens: TokenFile, clock: Clock, refresh_ms: int) -> None:
        self._tokens = tokens
        self._clock = clock
        self._refresh_ms = refresh_ms
        self._looked_at: int | None = None
        self._looking = asyncio.Lock()

    async def resolve(self, request: Request) -> AuthResult:
        headers = request.headers.getlist(HEADER_AUTHORIZATION)
        if not headers:
            return AuthResult(identity=None)
        scheme, _, token = headers[0].partition(" ")
        if len(headers) > 1 or scheme.lower() != "bearer":
            raise AuthError("one Authorization header of the form 'Bearer <token>' is expected")
        if not self._is_fresh():
            await self._refresh()
        record = self._tokens.find(token.strip())
        if record is None:
            raise AuthError("the token is not valid")
        if record.is_expired(self._clock.now_ms()):
            raise AuthError("the token has expired")
        presenter = None if record.pubkey is None else Presenter(record.pubkey)
        return AuthResult(record.identity, list(record.roles), presenter)

    def _is_fresh(self) -> bool:
        # A look from the future was made before the clock was set back.
        return (
            self._looked_at is not None
            and 0 <= self._clock.now_ms() - self._looked_at < self._refresh_ms
        )

    async def _refresh(self) -> None:
        async with self._looking:
            if self._is_fresh():
                return
            try:
                if await asyncio.to_thread(self._tokens.refresh):
                    _logger.info("token file %s read", self._tokens.path)
            except TokenFileError as error:
                _logger.error("%s", error)  # noqa: TRY400  the trace says nothing more
            self._looked_at = self._clock.now_ms()

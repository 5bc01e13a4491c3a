"""Bearer tokens (RFC 6750): reading them from a request, and knowing a caller by them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from typing_extensions import override

from starfish_http.callers._caller import Authenticator, Caller
from starfish_http.callers._token_file import TokenFile
from starfish_http.callers._token_text import TokenRecord
from starfish_http.errors import AuthError, TokenFileError
from starfish_protocol.clock import Clock, SystemClock

__all__ = (
    "TokenAuthenticator",
    "bearer_token",
    "by_token",
    "create_token_role_resolver",
    "is_answered_again",
)

_LOG = logging.getLogger(__name__)
_CREDENTIALS = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


def bearer_token(request: Request) -> str | None:
    """The token of a request, ``None`` when it has no ``Authorization``.

    Raises:
        AuthError: there are several such headers, or one of another form.
    """
    headers = request.headers.getlist("authorization")
    if not headers:
        return None
    found = _CREDENTIALS.fullmatch(headers[0].strip())
    if len(headers) > 1 or found is None:
        raise AuthError("one Authorization header of the form 'Bearer <token>' is expected")
    return found[1]


class TokenAuthenticator(Authenticator):
    """Knows callers by the tokens of a file.

    A request without ``Authorization`` is anonymous, so that public routes need no token. A token
    that is unknown, expired or revoked is refused, and so is every token while the file is missing
    or damaged, from the next request on; an open stream ends likewise.

    Args:
        tokens: the file.
        clock: what the next look at the file is measured by; the file's own clock measures expiry.
        refresh_ms: how long a look at the file lasts; 0 looks at every request, which is one
            ``stat``.
    """

    def __init__(
        self, tokens: TokenFile, *, clock: Clock | None = None, refresh_ms: int = 0
    ) -> None:
        self._tokens = tokens
        self._clock = clock or SystemClock()
        self._refresh_ms = refresh_ms
        self._looked_at: int | None = None
        self._reading = asyncio.Lock()

    @override
    async def __call__(self, request: Request) -> Caller:
        """The caller of a request.

        Raises:
            AuthError: its token is not good.
        """
        token = bearer_token(request)
        if token is None:
            return Caller()
        record = await self._identify(token)
        if record is None:
            raise AuthError("the token is not valid")

        async def holds() -> bool:
            return await self._identify(token) == record

        return Caller(
            record.identity,
            list(record.roles),
            key=record.pubkey,
            scope_paths=record.scope_paths,
            namespaces=record.namespaces,
            expires_ms=record.expires,
            recheck=holds,
        )

    async def _identify(self, token: str) -> TokenRecord | None:
        try:
            if self._is_due() and self._tokens.has_changed():
                async with self._reading:
                    await asyncio.to_thread(self._tokens.refresh)
            self._looked_at = self._clock.now_ms()
            return self._tokens.identify(token, look=False)
        except TokenFileError as error:
            _LOG.error("%s", error)
            return None

    def _is_due(self) -> bool:
        # A look from the future was made before the clock was set back.
        return (
            self._looked_at is None
            or not 0 <= self._clock.now_ms() - self._looked_at < self._refresh_ms
        )


def create_token_role_resolver(
    tokens: TokenFile, *, clock: Clock | None = None, refresh_ms: int = 0
) -> TokenAuthenticator:
    """An `Authenticator` over a token file, to be passed as it is to server, registry and wire."""
    return TokenAuthenticator(tokens, clock=clock, refresh_ms=refresh_ms)


class by_token(Authenticator):  # noqa: N801 - it is called like the function that it wraps
    """An `Authenticator` over a function of a bearer token.

    A request without ``Authorization`` is anonymous; a token for which the function answers
    ``None`` is refused.

    Args:
        function: takes a token; answers a name, a `Caller`, or ``None`` for one that is not valid.

    Examples:
        >>> async def actor_of(token):
        ...     return "ada" if token == "a-long-random-secret" else None
        >>> authenticate = by_token(actor_of)
    """

    def __init__(self, function: Callable[[str], Awaitable[Any]]) -> None:
        self._function = function

    @override
    async def __call__(self, request: Request) -> Caller:
        """The caller of a request.

        Raises:
            AuthError: its token is not good.
        """
        token = bearer_token(request)
        if token is None:
            return Caller()
        answer = await self._function(token)
        if answer is None:
            raise AuthError("the token is not valid")
        return Caller.of(answer)

    @override
    async def is_current(self, request: Request, caller: Caller) -> bool:
        """Whether the function still answers the same caller."""
        return await caller.is_current() and await is_answered_again(self, request, caller)


async def is_answered_again(
    authenticate: Callable[[Request], Awaitable[Caller]], request: Request, caller: Caller
) -> bool:
    """Whether a function still answers the same caller; an error is a no."""
    try:
        again = await authenticate(request)
    except Exception as error:  # noqa: BLE001 - whatever the function raises, it no longer vouches
        _LOG.info("a credential no longer holds: %s", type(error).__name__)
        return False
    return again == caller

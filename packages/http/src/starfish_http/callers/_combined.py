"""Several kinds of credential for one service: the scheme of a request chooses."""

from __future__ import annotations

from starlette.requests import Request
from typing_extensions import override

from starfish_http.callers._caller import Authenticator, Caller
from starfish_http.callers._certificates import is_cap_header

__all__ = ("CombinedAuthenticator",)


class CombinedAuthenticator(Authenticator):
    """Knows callers by capabilities, by the tokens of a file and by JSON Web Tokens, side by side.

    ``Authorization: Cap …`` goes to the first. Of bearer tokens, those of three parts with dots
    between them are JSON Web Tokens where those are taken, the others are the file's. A request
    without a credential is anonymous.

    Args:
        capabilities: a `starfish_http.callers.capabilities.CapabilityAuthenticator`.
        tokens: what `create_token_role_resolver` makes.
        jwt: a `starfish_http.callers.jwt.JwtAuthenticator`.

    Raises:
        ValueError: there is not a single one.
    """

    def __init__(
        self,
        *,
        capabilities: Authenticator | None = None,
        tokens: Authenticator | None = None,
        jwt: Authenticator | None = None,
    ) -> None:
        if capabilities is None and tokens is None and jwt is None:
            raise ValueError(
                "capabilities, tokens and jwt are all None; at least one must be given"
            )
        self._capabilities = capabilities
        self._tokens = tokens
        self._jwt = jwt

    @override
    async def __call__(self, request: Request) -> Caller:
        """The caller of a request.

        Raises:
            AuthError: its credential is refused, or is of a kind that is not taken.
        """
        chosen = self._chosen(request)
        caller = Caller() if chosen is None else await chosen(request)
        if self._capabilities is None or chosen is self._capabilities:
            return caller
        is_anonymous = caller.identity is None and not caller.roles
        return await self._capabilities(request) if is_anonymous else caller

    @override
    async def is_current(self, request: Request, caller: Caller) -> bool:
        """Whether the credential still holds, as the authenticator says that it belongs to."""
        chosen = self._chosen(request)
        if chosen is None or chosen is self._capabilities:
            return await caller.is_current()
        return await chosen.is_current(request, caller)

    def _chosen(self, request: Request) -> Authenticator | None:
        given = request.headers.getlist("authorization")
        if self._capabilities is not None and any(map(is_cap_header, given)):
            return self._capabilities
        if self._jwt is not None and (self._tokens is None or _is_jwt(given)):
            return self._jwt
        return self._tokens or self._capabilities


def _is_jwt(given: list[str]) -> bool:
    return len(given) == 1 and given[0][:7].lower() == "bearer " and given[0].count(".") == 2

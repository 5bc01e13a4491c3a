"""What an application decides: where rows and bytes are, who a caller is, what they may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from obstore.store import ObjectStore
from starlette.requests import Request

from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.server._repos import Repo, Tokens
from starfish_mpack_wire.server._rows import WireRows
from starfish_mpack_wire.server.errors import InvalidTokenError
from starfish_protocol.clock import Clock, SystemClock

__all__ = ("Action", "Authenticate", "Authorize", "WireOptions", "bearer_token", "owner_may")

Action = Literal["read", "write"]
"""What a caller wants to do with a repository."""

Authenticate = Callable[[Request], Awaitable[str | None]]
"""Who sends this request; ``None`` for nobody in particular."""

Authorize = Callable[[str | None, Repo, Action], Awaitable[bool]]
"""Whether they may; reading is asked for before writing."""


def bearer_token(request: Request) -> str | None:
    """The token of an ``Authorization: Bearer`` header (RFC 6750), or ``None``."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


async def owner_may(identity: str | None, repo: Repo, action: Action) -> bool:
    """The rule that is used when no other is given: public is for all to read, the rest for the owner."""
    return identity == repo.owner or (action == "read" and not repo.private)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOptions:
    """What `create_wire_router` needs to know."""

    repos: WireRows
    """The database; shared by all servers of the same repositories."""
    blobs: ObjectStore
    """The storage of packs; shared likewise."""
    authenticate: Authenticate | None = None
    """``None`` looks up the bearer token among those of `Tokens`."""
    authorize: Authorize = owner_may
    """Who may read and write what."""
    limits: Limits = field(default_factory=Limits)
    """Caps."""
    clock: Clock = field(default_factory=SystemClock)
    """What URLs expire by."""
    public_url: str | None = None
    """The address that clients use, without a slash at its end, for URLs that lead to this server;
    ``None`` takes it from each request."""

    async def identity_of(self, request: Request) -> str | None:
        """Return the identity of the caller; ``None`` for a caller who sent no credential.

        Raises:
            InvalidTokenError: a credential was sent that stands for nobody.
        """
        token = bearer_token(request)
        if self.authenticate is not None:
            identity = await self.authenticate(request)
        elif token is None:
            return None
        else:
            identity = await Tokens(self.repos, clock=self.clock).owner_of(token)
        if identity is None and token is not None:
            raise InvalidTokenError
        return identity

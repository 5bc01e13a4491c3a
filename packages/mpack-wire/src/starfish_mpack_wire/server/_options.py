"""What an application decides: where rows and bytes are, who a caller is, what they may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from obstore.store import ObjectStore
from starlette.requests import Request

from starfish_http.callers import Authenticator, as_authenticator, by_token
from starfish_mpack_wire.limits import Limits
from starfish_mpack_wire.server._repos import Repo, Tokens
from starfish_mpack_wire.server._rows import WireRows
from starfish_protocol.clock import Clock, SystemClock

__all__ = ("Action", "Authorize", "WireOptions", "owner_may")

Action = Literal["read", "write"]
"""What a caller wants to do with a repository."""

Authorize = Callable[[str | None, Repo, Action], Awaitable[bool]]
"""Whether they may; reading is asked for before writing."""


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
    authenticate: Callable[[Request], Awaitable[Any]] | None = None
    """Answers who sends a request: a `starfish_http.callers.Authenticate`, or a function of a request that answers a
    name, or ``None`` for nobody. ``None`` looks up the bearer token among those of `Tokens`."""
    authorize: Authorize = owner_may
    """Who may read and write what."""
    limits: Limits = field(default_factory=Limits)
    """Caps."""
    clock: Clock = field(default_factory=SystemClock)
    """What URLs expire by."""
    public_url: str | None = None
    """The address that clients use, without a slash at its end, for URLs that lead to this server;
    ``None`` takes it from each request."""

    def authenticator(self) -> Authenticator:
        """Return the one contract that the routes ask: no token is an anonymous caller, a bad one is refused.

        Raises:
            TypeError: ``authenticate`` is not a function.
        """
        if self.authenticate is not None:
            return as_authenticator(self.authenticate, plain="request")
        return by_token(Tokens(self.repos, clock=self.clock).owner_of)

"""Who is calling, and what they may do.

Rule 1: the actor that the log records is the caller whom the authenticator named and no other.
Rule 2: access is decided before the registry is asked, so that a refusal tells nothing about what
exists.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from starlette.requests import Request

from starfish_http.callers import Authenticator, Caller, TokenAuthenticator, anyone
from starfish_http.callers.capabilities import CapabilityCaller
from starfish_http.errors import AuthError, RequestRefusedError

__all__ = ("ANONYMOUS", "ROLES", "Access", "AccessControl", "Action", "Authorizer", "by_roles")

Action = Literal[
    "create", "ingest", "finalize", "list", "read", "events", "verify", "prove", "hold", "release",
    "expire", "delete",
]  # fmt: skip
"""What a caller wants to do; ``read`` is a package, its manifest, its files or one file."""

ANONYMOUS = "anonymous"
"""The actor of a request that names none, where everybody is let in."""

ROLES: Final[dict[str, frozenset[Action]]] = {
    "read": frozenset({"list", "read", "events", "prove", "verify"}),
    "write": frozenset({"create", "ingest", "finalize"}),
    "hold": frozenset({"hold"}),
    "release": frozenset({"release"}),
    "delete": frozenset({"expire", "delete"}),
}
"""What each role may do. A caller without any role may read and write."""

_ACTOR = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class Access:
    """One thing that a caller wants to do."""

    actor: str
    """Who."""
    action: Action
    """What."""
    package_id: UUID | None
    """To which package; ``None`` where it is about none in particular, or a new one."""
    roles: tuple[str, ...] = ()
    """What the caller may be, as the authenticator says."""
    is_own_hold: bool = False
    """For ``release``: whether the caller placed the hold."""


Authorizer = Callable[[Access], Awaitable[bool]]
"""Answers whether a caller may; it learns nothing of whether the package exists."""


async def by_roles(access: Access) -> bool:
    """Whether the roles of a caller allow it; the holder of a hold may always release it.

    Examples:
        >>> import asyncio
        >>> asyncio.run(by_roles(Access("ada", "delete", None, ("write", "hold"))))
        False
    """
    if access.action == "release" and access.is_own_hold:
        return True
    roles = access.roles or ("read", "write")
    return any(access.action in ROLES.get(role, ()) for role in roles)


class AccessControl:
    """Decides over every request, the same way for all routes.

    Without an authorizer, callers of a token file and callers who have roles are held to their
    roles, and a caller of a plain function, which knows no roles, may do everything.
    """

    def __init__(self, authenticate: Authenticator, authorize: Authorizer | None) -> None:
        self._authenticate = authenticate
        self._authorize = authorize

    async def admit(self, request: Request, action: Action, package_id: UUID | None = None) -> str:
        """Let a request pass, and say who the actor is.

        Raises:
            RequestRefusedError: 401 without valid credentials, 403 when it is not allowed.
        """
        access = await self.identify(request, action, package_id)
        if not await self.allows(access):
            raise refused(access)
        return access.actor

    async def identify(
        self, request: Request, action: Action, package_id: UUID | None = None
    ) -> Access:
        """Who sends a request, and what they want.

        Raises:
            RequestRefusedError: 401 without valid credentials; 403 when it claims to be another.
        """
        claimed = _claimed_actor(request)
        caller = await self._authenticate(request)
        if self._authenticate is anyone:
            return Access(claimed or ANONYMOUS, action, package_id)
        if caller.identity is None:
            raise AuthError("a valid bearer token is needed")
        if _ACTOR.fullmatch(caller.identity) is None:
            raise RequestRefusedError(
                403, "forbidden", "the caller's name is not 1 to 200 printable ASCII characters"
            )
        if claimed is not None and claimed != caller.identity:
            raise RequestRefusedError(
                403, "forbidden", "Registry-Actor names somebody else than the token; leave it out"
            )
        if caller.admit is not None:  # a credential that is good for one request
            await caller.admit()
        return Access(caller.identity, action, package_id, _roles_of(caller))

    async def is_current(self, request: Request) -> bool:
        """Whether the caller of an open stream would still be let in."""
        if self._authenticate is anyone:
            return True
        try:
            caller: Caller = await self._authenticate(request)
        except RequestRefusedError:
            return False
        return caller.identity is not None

    async def allows(self, access: Access) -> bool:
        """Whether the authorizer, or else the roles, say yes."""
        if self._authorize is not None:
            return await self._authorize(access)
        if access.roles or isinstance(self._authenticate, TokenAuthenticator):
            return await by_roles(access)
        return True


def _roles_of(caller: Caller) -> tuple[str, ...]:
    """The roles of a caller; a certificate gives its operations, where its issuer is trusted."""
    if not isinstance(caller, CapabilityCaller):
        return tuple(caller.roles)
    granted = [op for op in ("read", "write") if op in caller.ops and caller.is_trusted]
    # Never none at all, which would mean a caller whose rights nobody bounds.
    return (*granted, *caller.roles, "certificate")


def refused(access: Access) -> RequestRefusedError:
    """The answer to a caller who may not."""
    return RequestRefusedError(403, "forbidden", f"{access.actor} may not {access.action} here")


def _claimed_actor(request: Request) -> str | None:
    claimed = request.headers.get("registry-actor")
    if claimed is not None and _ACTOR.fullmatch(claimed) is None:
        raise RequestRefusedError(
            400, "invalid_request", "Registry-Actor is 1 to 200 printable ASCII characters"
        )
    return claimed

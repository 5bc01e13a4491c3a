"""Who is calling, and what they may do.

Rule 1: with an authenticator, the actor that the log records is the authenticated one and no other.
Rule 2: access is decided before the registry is asked, so that a refusal tells nothing about what
exists.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from starlette.requests import Request

from starfish_artifact_registry.http._refusals import RequestRefusedError

__all__ = ("ANONYMOUS", "Access", "AccessControl", "Action", "Authenticator", "Authorizer")

Action = Literal[
    "create", "ingest", "finalize", "list", "read", "events", "verify", "prove", "hold", "release",
    "expire", "delete",
]  # fmt: skip
"""What a caller wants to do; ``read`` is a package, its manifest, its files or one file."""

Authenticator = Callable[[str], Awaitable[str | None]]
"""Takes a bearer token and answers the actor it belongs to, ``None`` for one that is not valid."""

ANONYMOUS = "anonymous"
"""The actor of a request that names none, where nobody is authenticated."""

_ACTOR = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")
_CREDENTIALS = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_CHALLENGE = {"www-authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Access:
    """One thing that a caller wants to do."""

    actor: str
    """Who."""
    action: Action
    """What."""
    package_id: UUID | None
    """To which package; ``None`` where it is about none in particular, or a new one."""


Authorizer = Callable[[Access], Awaitable[bool]]
"""Answers whether a caller may; it learns nothing of whether the package exists."""


class AccessControl:
    """Decides over every request, the same way for all routes.

    Without an authenticator everybody may in, and the actor is what the header ``Registry-Actor``
    says: for a service that only trusted programs reach.
    """

    def __init__(self, authenticate: Authenticator | None, authorize: Authorizer | None) -> None:
        self._authenticate = authenticate
        self._authorize = authorize

    async def admit(self, request: Request, action: Action, package_id: UUID | None = None) -> str:
        """Let a request pass, and say who the actor is.

        Raises:
            RequestRefusedError: 401 without valid credentials, 403 when it is not allowed.
        """
        actor = await self.identify(request)
        if not await self.allows(Access(actor, action, package_id)):
            raise RequestRefusedError(403, "forbidden", f"{actor} may not {action} here")
        return actor

    async def identify(self, request: Request) -> str:
        """The actor of a request.

        Raises:
            RequestRefusedError: 401 without valid credentials; 403 when it claims to be another.
        """
        claimed = _claimed_actor(request)
        if self._authenticate is None:
            return claimed or ANONYMOUS
        token = _bearer_token(request)
        actor = None if token is None else await self._authenticate(token)
        if actor is None:
            message = (
                "a valid bearer token is needed" if token is None else "the token is not valid"
            )
            raise RequestRefusedError(401, "unauthenticated", message, headers=_CHALLENGE)
        if claimed is not None and claimed != actor:
            raise RequestRefusedError(
                403, "forbidden", "Registry-Actor names somebody else than the token; leave it out"
            )
        return actor

    async def allows(self, access: Access) -> bool:
        """Whether the authorizer, if there is one, says yes."""
        return self._authorize is None or await self._authorize(access)


def _claimed_actor(request: Request) -> str | None:
    claimed = request.headers.get("registry-actor")
    if claimed is not None and _ACTOR.fullmatch(claimed) is None:
        raise RequestRefusedError(
            400, "invalid_request", "Registry-Actor is 1 to 200 printable ASCII characters"
        )
    return claimed


def _bearer_token(request: Request) -> str | None:
    values = request.headers.getlist("authorization")
    if not values:
        return None
    found = _CREDENTIALS.fullmatch(values[0].strip())
    if len(values) > 1 or found is None:
        raise RequestRefusedError(
            401,
            "unauthenticated",
            "one Authorization header of the form 'Bearer <token>' is expected",
            headers=_CHALLENGE,
        )
    return found[1]

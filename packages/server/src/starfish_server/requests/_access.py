"""Who is calling, and what they may do.

Rule 1: the resolver runs once a request, whatever the request needs. Rule 2: access is decided
before a store is read, so a refusal is the same whether or not there is a document.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from starfish_http.callers import Authenticator, Caller
from starfish_http.callers.capabilities import CapabilityCaller
from starfish_http.errors import AuthError, ClientDisconnectedError
from starfish_http.errors import RequestRefusedError as HttpRefusedError
from starfish_http.request_body import RequestBody
from starfish_http.time_limit import within
from starfish_protocol.clock import Clock
from starfish_protocol.plugins import AuthorizeContext
from starfish_server._plugin_chain import PluginChain
from starfish_server.documents._errors import DamagedDocumentError
from starfish_server.errors import StoreError
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._served_collection import ServedCollection

__all__ = ("AccessControl", "Action", "Identified", "RoleEnricher", "holds")

Action = Literal["pull", "push", "list"]
RoleEnricher = Callable[[Any, Mapping[str, str]], Awaitable[list[str]]]
"""Adds roles that depend on the document: takes the resolver's answer and the path parameters."""

_LOG = logging.getLogger(__name__)
_ANONYMOUS = Caller()
_PASSED_ON = (
    HttpRefusedError,
    RequestRefusedError,
    ClientDisconnectedError,
    # Nobody can tell whether the credential is good: that is not a refusal of it.
    StoreError,
    DamagedDocumentError,
)
_ROOT_DEVICE = "device:root"
_REFUSALS = {401: "Unauthorized", 403: "Forbidden", 413: "Payload too large"}


@dataclass(frozen=True, slots=True)
class Identified:
    """The caller of a request, or why its credentials were refused."""

    auth: Caller
    refusal: Exception | None = None
    """Why the credentials were refused; such a caller is anonymous and may use only ``public`` collections."""


class _ResolverRefusal(Exception):  # noqa: N818 - it never leaves this module
    """What a resolver raised; a time-out of its own is not ours."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class AccessControl:
    """Decides over every action, the same way for all routes."""

    def __init__(
        self,
        authenticator: Authenticator,
        enricher: RoleEnricher | None,
        plugins: PluginChain,
        *,
        timeout: float,
        clock: Clock,
    ) -> None:
        self._authenticator = authenticator
        self._enricher = enricher
        self._plugins = plugins
        self._timeout = timeout
        self._clock = clock

    async def identify(self, scope: Scope, body: RequestBody) -> Identified:
        """Ask the resolver.

        Raises:
            RequestRefusedError: 503 when it takes too long.
        """
        try:
            return Identified(await within(self._timeout, self._asked(scope, body)))
        except _PASSED_ON:
            raise
        except TimeoutError as error:
            _LOG.warning("the role resolver took longer than %s s", self._timeout)
            raise RequestRefusedError(503, "Role resolver timed out") from error
        except _ResolverRefusal as refusal:
            return Identified(_ANONYMOUS, refusal.error)

    async def _asked(self, scope: Scope, body: RequestBody) -> Caller:
        try:
            return await self._authenticator(Request(scope, replaying(body)))
        except _PASSED_ON as error:
            if isinstance(error, AuthError):
                raise _ResolverRefusal(error) from error
            raise
        except Exception as error:
            raise _ResolverRefusal(_as_refusal(error)) from error

    async def is_current(self, caller: Identified, scope: Scope, body: RequestBody) -> bool:
        """Whether the credential behind a request that is still answered holds at this moment."""
        if caller.refusal is not None:
            return True  # an anonymous caller has nothing that could be withdrawn
        expires_ms = caller.auth.expires_ms
        if expires_ms is not None and expires_ms <= self._clock.now_ms():
            return False
        request = Request(scope, replaying(body))
        try:
            return await within(self._timeout, self._authenticator.is_current(request, caller.auth))
        except Exception:  # noqa: BLE001 - nobody vouches for the caller any more
            _LOG.warning("a credential cannot be looked at again", exc_info=True)
            return False

    def may_read_some(self, caller: Identified, collection: ServedCollection) -> bool:
        """Whether there may be a document that a caller can read; ``False`` only to the anonymous."""
        roles = [role for role in caller.auth.roles if role != "public"]
        known = caller.auth.identity is not None or bool(roles)
        return known or self._enricher is not None or "public" in collection.read_roles

    async def authorize(
        self,
        caller: Identified,
        collection: ServedCollection,
        document_key: str,
        params: Mapping[str, str],
        action: Action,
    ) -> tuple[str, ...]:
        """Let an action on one document pass, and say with which roles.

        Raises:
            AuthError: 401 without an identity, 403 with one; the resolver's own refusal.
            RequestRefusedError: a plugin rejects it; 503 when the enricher fails.
        """
        wanted = collection.write_roles if action == "push" else collection.read_roles
        if caller.refusal is not None and ("public" not in wanted or self.asks_always(collection)):
            raise caller.refusal  # whatever an enricher would give to an anonymous caller
        auth = caller.auth
        roles = _roles_of(auth, collection)
        if self._enricher is not None:
            roles = (*roles, *await self._enriched(self._enricher, auth, params))
        if not holds(wanted, roles, auth.identity, params):
            # Who was found to be anonymous, and not just said nothing, is told that it does not suffice.
            is_unknown = auth.identity is None and not auth.roles
            raise AuthError(status=401) if is_unknown else _forbidden()
        if not (
            auth.allows_namespace(collection.namespace)
            and auth.allows_collection(action, collection.name)
            and auth.allows(action, document_key)
        ):
            raise _forbidden()
        if collection.config.root_only and _ROOT_DEVICE not in roles:
            raise _forbidden()
        if not collection.admits(auth.identity, action):
            raise RequestRefusedError(403, "identity restricted")
        if self._plugins.authorizes:
            context = AuthorizeContext(
                action, collection.name, params, auth.identity, collection.namespace, roles
            )
            rejection = await self._plugins.authorize(context)
            if rejection is not None:
                raise RequestRefusedError(rejection.status or 403, rejection.error or "Forbidden")
        return roles

    def asks_always(self, collection: ServedCollection) -> bool:
        """Whether it matters who the caller is, also where everybody is let in."""
        return self._plugins.authorizes or bool(collection.restrictions)

    async def _enriched(
        self, enricher: RoleEnricher, auth: Caller, params: Mapping[str, str]
    ) -> list[str]:
        try:
            return list(await within(self._timeout, enricher(auth, params)))
        except Exception as error:
            _LOG.warning("the role enricher failed: %s", type(error).__name__, exc_info=True)
            raise RequestRefusedError(503, "Role enricher failed") from error


def _roles_of(auth: Caller, collection: ServedCollection) -> tuple[str, ...]:
    """The caller's roles; those of a certificate only where its issuer is trusted."""
    trusted = collection.config.trusted_issuers
    if trusted is None or not isinstance(auth, CapabilityCaller) or auth.issuer in trusted:
        return tuple(auth.roles)
    return tuple(role for role in auth.roles if role != _ROOT_DEVICE and role[:4] != "cap:")


def replaying(body: RequestBody) -> Receive:
    """The ASGI ``receive`` of others who want the body, which stays to be read again."""

    async def receive() -> Message:
        return {"type": "http.request", "body": await body.read(), "more_body": False}

    return receive


def holds(
    wanted: Collection[str], roles: Collection[str], identity: str | None, params: Mapping[str, str]
) -> bool:
    """Whether a caller has one of the wanted roles."""
    if "public" in wanted:
        return True
    if "self" in wanted and identity is not None and params.get("identity") == identity:
        return True
    return any(role in wanted for role in roles)


def _forbidden() -> RequestRefusedError:
    return RequestRefusedError(403, "Forbidden")


def _as_refusal(error: Exception) -> Exception:
    """A resolver's own 403 or 413, else a 401."""
    if isinstance(error, AuthError):
        return error
    status = getattr(error, "status", None) or getattr(error, "status_code", None)
    if status in {401, 403, 413}:
        return RequestRefusedError(status, _REFUSALS[status])
    _LOG.warning("the role resolver raised %s", type(error).__name__)
    return AuthError()

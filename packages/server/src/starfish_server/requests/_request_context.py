"""What the routes share, and one request on its way through them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from starfish_http.addresses import client_address_of
from starfish_http.answers import Answer, bytes_answer
from starfish_http.callers import Caller
from starfish_http.callers.capabilities import (
    SIGNED_BODY,
    CapabilityCaller,
    SignedBody,
    is_capability_request,
)
from starfish_http.errors import AuthError
from starfish_http.events import EventStream
from starfish_http.request_body import BodyPace, RequestBody
from starfish_protocol.clock import Clock
from starfish_protocol.constants import HEADER_RETRY_AFTER
from starfish_protocol.plugins import PullHookContext
from starfish_server._plugin_chain import PluginChain
from starfish_server.auth.capabilities import Capabilities
from starfish_server.documents._append_log import AppendLog
from starfish_server.documents._push import DocumentWriter
from starfish_server.requests._access import AccessControl, Action, Identified
from starfish_server.requests._media_types import checked_media_type
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_limits import RequestLimits
from starfish_server.requests._served_collection import ServedCollection, check_params
from starfish_server.requests._views import Views
from starfish_server.storage.base import StoreContext
from starfish_server.storage.object_store import ObjectStore

__all__ = ("Handler", "RequestContext", "Services")

_ANONYMOUS = Caller(None, ["public"])
_BODY_LIMIT_OF_READS = 65_536  # a GET has no body; a resolver may ask for it all the same


@dataclass(frozen=True, slots=True)
class Services:
    """What every route needs; one a router."""

    store: ObjectStore
    writer: DocumentWriter
    log: AppendLog
    views: Views
    access: AccessControl
    plugins: PluginChain
    limiter: RequestLimits | None
    trusted_proxy_hops: int
    clock: Clock
    body_timeout: float
    capabilities: Capabilities | None


class RequestContext:
    """One request that has found its route."""

    __slots__ = (
        "_body", "_caller", "_is_admitted", "_is_opaque", "_query", "_unread",
        "params", "receive", "rest", "scope", "services",
    )  # fmt: skip

    def __init__(
        self, services: Services, scope: Scope, receive: Receive, rest: str, params: dict[str, str]
    ) -> None:
        self.services = services
        self.scope = scope
        self.receive = receive
        self.rest = rest
        """The path after ``/pull/``, ``/push/`` or ``/list/``: the document's key."""
        self.params = params
        """Path parameters, unchecked before `check_params`."""
        self._body: RequestBody | None = None
        self._caller: Identified | None = None
        self._query: dict[str, str] | None = None
        self._is_admitted = False
        self._is_opaque = False
        self._unread = False

    def with_scope(self, scope: Scope) -> RequestContext:
        """The same request with another head for those who ask for the caller; the query stays."""
        other = RequestContext(self.services, scope, self.receive, self.rest, self.params)
        other._query = dict(self.query)
        return other

    def body(self, limit: int = _BODY_LIMIT_OF_READS) -> RequestBody:
        """The body; the first who asks sets the limit."""
        if self._body is None:
            pace = BodyPace(self.services.body_timeout)
            self._body = RequestBody(self.scope, self.receive, max_bytes=limit, pace=pace)
        return self._body

    @property
    def query(self) -> Mapping[str, str]:
        """Query parameters; of duplicates the first counts.

        Raises:
            RequestRefusedError: there are too many, or they are not UTF-8.
        """
        if self._query is None:
            try:
                pairs = parse_qsl(
                    self.scope["query_string"].decode("ascii"),
                    keep_blank_values=True,
                    max_num_fields=100,
                    errors="strict",
                )
            except ValueError as error:
                raise RequestRefusedError(400, "Invalid query string") from error
            self._query = dict(reversed(pairs))
        return self._query

    async def caller(self) -> Identified:
        """Who sends the request; the resolver is asked once."""
        if self._caller is None:
            self._caller = await self._identified()
        return self._caller

    async def _identified(self) -> Identified:
        body = self.body()
        if self.services.capabilities is not None:
            self.scope[SIGNED_BODY] = SignedBody(body.sent, self._is_opaque)
        return await self.services.access.identify(self.scope, body)

    async def credential(self) -> None:
        """Look at a certificate that was left unread, since the collection is public."""
        if self._unread:
            self._unread = False
            self._caller = await self._identified()

    async def use_credential(self) -> None:
        """Use the credential up, when it is good for one request; the second time does nothing.

        Raises:
            AuthError: another request has used it; the caller is anonymous from here on.
            RequestRefusedError: 503, there is no room to remember it.
        """
        caller = await self.caller()
        if caller.auth.admit is None or self._is_admitted:
            return
        self._is_admitted = True
        try:
            await caller.auth.admit()
        except AuthError as refusal:
            self._caller = Identified(_ANONYMOUS, refusal)
            raise

    async def remember_writer(self) -> None:
        """Say that something was written with this request's certificate."""
        capabilities = self.services.capabilities
        if capabilities is None or self._caller is None:
            return
        auth = self._caller.auth
        if isinstance(auth, CapabilityCaller):
            await capabilities.issuers.add(auth.issuer)

    async def is_current(self) -> bool:
        """Whether the caller's credential holds at this moment; as `AccessControl.is_current`."""
        caller = await self.caller()
        return await self.services.access.is_current(caller, self.scope, self.body())

    def address(self) -> str:
        """The address that an anonymous caller is counted by."""
        return client_address_of(self.scope, trusted_proxy_hops=self.services.trusted_proxy_hops)

    async def admit(
        self, collection: ServedCollection, action: Action, body_limit: int | None = None
    ) -> StoreContext:
        """Pass parameters, rate limits and access rules, in this order.

        Raises:
            InvalidKeyError: the path names no document.
            AuthError: access is refused.
            RequestRefusedError: likewise, or 429.
        """
        check_params(self.rest, self.params)
        if body_limit is not None:
            self.body(body_limit)
        if self.services.capabilities is not None and is_capability_request(self.scope):
            self._prepare_for_certificate(collection, action)
        caller = await self.caller()
        await self.count(caller, collection, action)
        return await self.authorize(collection, self.rest, self.params, action)

    def _prepare_for_certificate(self, collection: ServedCollection, action: Action) -> None:
        """Decide whether a certificate is read, and which body its request must have signed.

        Raises:
            RequestRefusedError: 415, the body is not of the collection's kind.
        """
        wanted = collection.write_roles if action == "push" else collection.read_roles
        is_guarded = collection.hidden_fields or collection.guarded_fields
        always = is_guarded or self.services.access.asks_always(collection)
        if "public" in wanted and not always:
            self._caller, self._unread = Identified(_ANONYMOUS), True
        elif self.scope["method"] == "POST":
            # The collection decides, and not the media type of the request.
            if collection.config.is_binary:
                policy = self.services.capabilities
                self._is_opaque = policy is None or not policy.requires_signed_blobs
            else:
                checked_media_type(self.scope, collection.config.allowed_mime_types)

    async def count(self, caller: Identified, collection: ServedCollection, action: Action) -> None:
        """Count the request against the limits of a collection.

        Raises:
            RequestRefusedError: 429 with the seconds to wait.
        """
        limiter = self.services.limiter
        if limiter is None:
            return
        retry_after = await limiter.take(
            identity=caller.auth.identity,
            address=self.address(),
            collection=collection.name,
            namespace=collection.namespace,
            action=action,
        )
        _refuse_for(retry_after)

    async def count_for_server(self) -> None:
        """Count the request against the limit of the server as a whole.

        Raises:
            RequestRefusedError: 429 with the seconds to wait.
        """
        limiter = self.services.limiter
        if limiter is None or not limiter.counts_everything:
            return
        caller = await self.caller()
        identity = caller.auth.identity
        _refuse_for(await limiter.take_for_server(identity=identity, address=self.address()))

    async def authorize(
        self,
        collection: ServedCollection,
        document_key: str,
        params: Mapping[str, str],
        action: Action,
    ) -> StoreContext:
        """Decide over one document; as `AccessControl.authorize`."""
        caller = await self.caller()
        access = self.services.access
        roles = await access.authorize(caller, collection, document_key, params, action)
        if caller.auth.admit is not None and not self._is_admitted:
            wanted = collection.write_roles if action == "push" else collection.read_roles
            if "public" not in wanted or access.asks_always(collection):
                await self.use_credential()
        return StoreContext(
            collection.name, params, caller.auth.identity, roles, action, collection.namespace
        )

    async def as_reader(
        self, collection: ServedCollection, document_key: str, params: Mapping[str, str]
    ) -> StoreContext | None:
        """The context of a pull of a document, ``None`` when the caller may not pull it now.

        Raises:
            RequestRefusedError: nobody can tell: the enricher failed.
        """
        if collection.config.push_only:
            return None
        try:
            context = await self.authorize(collection, document_key, params, "pull")
        except AuthError:
            return None
        except RequestRefusedError as refusal:
            if refusal.status >= 500:
                raise
            return None
        hook = PullHookContext(context.collection, context.params, context.namespace)
        return context if await self.services.plugins.before_pull(hook) is None else None

    async def plugins_answer(
        self, context: StoreContext, document_key: str | None = None
    ) -> Answer | None:
        """What a plugin answers to a pull in place of the store.

        Args:
            context: of the pull.
            document_key: of the only document that the request asks for.

        Raises:
            RequestRefusedError: a plugin rejects the pull.
        """
        plugins = self.services.plugins
        if not plugins.gates_pulls:
            return None
        hook = PullHookContext(
            context.collection,
            context.params,
            context.namespace,
            document_key,
            None if document_key is None else self.query,
        )
        rejection = await plugins.before_pull(hook)
        if rejection is not None:
            raise RequestRefusedError(rejection.status or 403, rejection.error or "Forbidden")
        answered = await plugins.intercept_pull(hook)
        if answered is None:
            return None
        content_type = answered.content_type or "application/json"
        return bytes_answer(answered.status or 200, answered.body or b"", content_type, [])


def _refuse_for(seconds: int | None) -> None:
    if seconds is not None:
        raise RequestRefusedError(
            429, "Rate limit exceeded", headers={HEADER_RETRY_AFTER: str(seconds)}
        )


Handler = Callable[[RequestContext], Awaitable[Answer | EventStream]]
"""Answers one request."""

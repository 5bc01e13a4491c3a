"""The pages of the console and their addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from starfish_http.callers import Caller, as_authenticator
from starfish_http.components import Component, Facts, Link, PageRequest, Table
from starfish_http.errors import RequestRefusedError
from starfish_http.request_body import RequestBody
from starfish_server.auth._result import RoleResolver
from starfish_server.config.schema import SyncConfig
from starfish_server.console._as_caller import ask, forward, scope_for
from starfish_server.console._documents import Documents, path_of
from starfish_server.console._html import asset, page
from starfish_server.console._session import is_from_here, sign_in, sign_out
from starfish_server.errors import InvalidKeyError
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.base import AbstractObjectStore

__all__ = ("create_console",)

_ANONYMOUS: Final = Caller()
_HEALTH_WITHIN_S = 2.0
_LONGEST_FORM = 16 * 1024
_LARGEST_FILE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Viewer:
    caller: Caller
    is_refused: bool


def create_console(
    *,
    store: AbstractObjectStore,
    config: SyncConfig,
    role_resolver: RoleResolver,
    components: Sequence[Component] = (),
    title: str = "Starfish",
    data: str | None = None,
    prefix: str = "",
) -> APIRouter:
    """Pages about a service for people: a front page at ``/`` and the console below ``/console``.

    Include the router in the application that serves the sync router; it reads documents through
    that application, with the credential of the person who looks, and writes nothing.

    Args:
        store: the service's store; tells which documents there are and their history.
        config: what the service serves.
        role_resolver: the service's; answers who looks.
        components: other parts of the service, with pages of their own.
        title: the service's name.
        data: where the service keeps its data, in words for the front page.
        prefix: under which the sync router was included, such as ``/v1``.

    Raises:
        ConfigError: the configuration cannot be served.

    Examples:
        >>> from starfish_server.app import anonymous_role_resolver, create_app
        >>> from starfish_server.storage.memory import MemoryObjectStore
        >>> store, config = MemoryObjectStore(), SyncConfig(collections=[])
        >>> app = create_app(config, store=store)
        >>> console = create_console(
        ...     store=store, config=config, role_resolver=anonymous_role_resolver
        ... )
        >>> app.include_router(console)
    """
    documents = Documents(as_object_store(store), config, prefix)
    console = _Console(documents, role_resolver, components, title=title, data=data, prefix=prefix)
    router = APIRouter(include_in_schema=False)
    routes: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/", console.front),
        ("GET", "/console", console.overview),
        ("GET", "/console/collection", console.collection),
        ("GET", "/console/document", console.document),
        ("GET", "/console/feed", console.feed),
        ("GET", "/console/feed/stream", console.feed_stream),
        ("GET", "/console/api", console.api),
        ("GET", "/console/sign-in", console.sign_in_page),
        ("POST", "/console/sign-in", console.sign_in),
        ("POST", "/console/sign-out", console.sign_out),
        ("GET", "/console/part/{name}/{path}", console.component),
        ("POST", "/console/part/{name}/{path}", console.component),
        ("GET", "/console/static/{name}", console.static),
    ]
    for method, path, endpoint in routes:
        router.add_route(path, endpoint, methods=[method], include_in_schema=False)
    return router


class _Console:
    def __init__(
        self,
        documents: Documents,
        role_resolver: RoleResolver,
        components: Sequence[Component],
        *,
        title: str,
        data: str | None,
        prefix: str,
    ) -> None:
        self._documents = documents
        self._authenticator = as_authenticator(role_resolver, plain="request")
        self._components = {component.name: component for component in components}
        self._title = title
        self._data = data
        self._prefix = prefix

    # Who looks.

    async def _viewer(self, request: Request) -> _Viewer:
        asked = Request(scope_for(request, request.url.path, {}, {}))
        try:
            return _Viewer(await self._authenticator(asked), is_refused=False)
        except RequestRefusedError:
            return _Viewer(_ANONYMOUS, is_refused=True)

    async def _page(
        self, request: Request, template: str, *, status: int = 200, here: str = "", **values: Any
    ) -> Response:
        viewer = values.pop("viewer", None) or await self._viewer(request)
        return page(
            request,
            template,
            status=status,
            title=self._title,
            viewer=viewer,
            here=here,
            parts=list(self._components.values()),
            **values,
        )

    async def sign_in_page(self, request: Request) -> Response:
        """A form that takes a token."""
        return await self._page(request, "sign_in.html", error=None)

    async def sign_in(self, request: Request) -> Response:
        """Keep the token that was typed, if the service knows it."""
        if not is_from_here(request):
            return await self._refused(request, 403, "This form was sent by another site.")
        form = parse_qs((await _body(request, _LONGEST_FORM)).decode("utf-8", "replace"))
        token = form.get("token", [""])[-1].strip()
        answer = RedirectResponse(f"{request.scope.get('root_path', '')}/console", 303)
        if sign_in(request, answer, token):
            headers = [
                (k, v)
                for k, v in request.scope["headers"]
                if k not in {b"authorization", b"cookie"}
            ]
            headers.append((b"authorization", f"Bearer {token}".encode("latin-1")))
            try:
                caller = await self._authenticator(
                    Request({**request.scope, "method": "GET", "headers": headers})
                )
            except RequestRefusedError:
                caller = None
            if caller is not None and (caller.identity is not None or caller.roles):
                return answer
        return await self._page(
            request, "sign_in.html", status=401, error="The service does not know this token."
        )

    async def sign_out(self, request: Request) -> Response:
        """Forget the token."""
        if not is_from_here(request):
            return await self._refused(request, 403, "This form was sent by another site.")
        answer = RedirectResponse(f"{request.scope.get('root_path', '')}/", 303)
        sign_out(request, answer)
        return answer

    async def _refused(self, request: Request, status: int, sentence: str) -> Response:
        return await self._page(request, "refused.html", status=status, sentence=sentence)

    # The pages.

    async def front(self, request: Request) -> Response:
        """What runs here, where its data is, and where to go on."""
        return await self._page(
            request,
            "front.html",
            data=self._data,
            base=f"{request.base_url}".rstrip("/") + self._prefix,
            prefix=self._prefix,
            health=await self._health(request),
            collections=self._documents.readable_by((await self._viewer(request)).caller),
        )

    async def overview(self, request: Request) -> Response:
        """Collections and parts."""
        viewer = await self._viewer(request)
        return await self._page(
            request,
            "overview.html",
            here="overview",
            viewer=viewer,
            collections=self._documents.readable_by(viewer.caller),
            health=await self._health(request),
        )

    async def collection(self, request: Request) -> Response:
        """The documents of one collection."""
        viewer = await self._viewer(request)
        name = request.query_params.get("name", "")
        member = {m.store_key(m.name): m for m in self._documents.readable_by(viewer.caller)}.get(
            name
        )
        if member is None:
            return await self._refused(request, 404, "There is no such collection for you.")
        begins = request.query_params.get("begins", "")
        after = request.query_params.get("after")
        try:
            rows, more = await self._documents.list(request, member, begins, after)
        except InvalidKeyError:
            return await self._refused(request, 400, "No path can begin like this.")
        is_part = "hx-request" in request.headers and after is not None
        return await self._page(
            request,
            "rows.html" if is_part else "collection.html",
            here=name,
            viewer=viewer,
            member=member,
            name=name,
            begins=begins,
            rows=rows,
            more=None
            if more is None
            else urlencode({"name": name, "begins": begins, "after": more}),
        )

    async def document(self, request: Request) -> Response:
        """One document with its history."""
        name, key = request.query_params.get("collection", ""), request.query_params.get("path", "")
        member = self._documents.collections.get(name)
        if member is None or member.config.push_only or member.template.match(key) is None:
            return await self._refused(request, 404, "There is no such document for you.")
        viewer = await self._viewer(request)
        shown = await self._documents.show(request, viewer.caller, member, key)
        if shown.status not in {200, 206}:
            return await self._refused(request, 404, "There is no such document for you.")
        return await self._page(request, "document.html", here=name, viewer=viewer, shown=shown)

    async def feed(self, request: Request) -> Response:
        """Writes as they happen."""
        return await self._page(
            request, "feed.html", here="feed", has_log=self._documents.log is not None
        )

    async def feed_stream(self, request: Request) -> Any:
        """``/events`` with the credential of the person who looks."""
        viewer = await self._viewer(request)
        namespace = request.query_params.get("namespace") or None
        names = [
            m.name for m in self._documents.readable_by(viewer.caller) if m.namespace == namespace
        ]
        if not names:
            return Response(status_code=204)  # tells EventSource not to come back
        path = self._prefix + path_of(namespace, "events", "").rstrip("/")
        return forward(request, path, {"collections": ",".join(names)})

    async def api(self, request: Request) -> Response:
        """The operations of the service."""
        app = request.app
        is_described = isinstance(app, FastAPI) and app.openapi_url is not None
        paths: dict[str, dict[str, dict[str, Any]]] = app.openapi()["paths"] if is_described else {}
        operations = [
            (method.upper(), path, operation["summary"], sorted(operation["responses"]))
            for path, methods in paths.items()
            for method, operation in methods.items()
        ]
        return await self._page(
            request,
            "api.html",
            here="api",
            operations=operations,
            openapi_url=app.openapi_url if is_described else None,
        )

    async def component(self, request: Request) -> Response:
        """A page of another part of the service."""
        found = self._components.get(request.path_params["name"])
        shown = found.page(request.path_params["path"]) if found is not None else None
        if found is None or shown is None:
            return await self._refused(request, 404, "There is no such page.")
        viewer = await self._viewer(request)
        dropped: bytes | None = None
        if request.method == "POST":
            if shown.takes_file is None or not is_from_here(request):
                return await self._refused(request, 403, "This page takes no file from there.")
            dropped = await _body(request, _LARGEST_FILE)
        asked = PageRequest(viewer.caller, dict(request.query_params), dropped)
        try:
            sections = await shown.show(asked)
        except RequestRefusedError as error:
            return await self._refused(request, error.status_code, str(error.detail))
        return await self._page(
            request,
            "component_part.html" if request.method == "POST" else "component.html",
            here=f"{found.name}/{shown.path}",
            viewer=viewer,
            component=found,
            shown=shown,
            sections=[_described(section) for section in sections],
            href=partial(_href, request, found),
        )

    async def static(self, request: Request) -> Response:
        """Stylesheet, script, icon."""
        return asset(request.path_params["name"]) or Response(status_code=404)

    async def _health(self, request: Request) -> list[tuple[str, bool, str]]:
        """Each part of the service: its name, whether it works, and the facts it told."""
        ready = await ask(request, f"{self._prefix}/ready")
        states = [("Documents", ready.status == 200, "")]
        for component in self._components.values():
            try:
                async with asyncio.timeout(_HEALTH_WITHIN_S):
                    facts = dict(await component.health())
            except Exception as error:  # noqa: BLE001 - a part that fails is what this page is for
                facts = {"ok": False, "error": type(error).__name__}
            is_well = bool(facts.pop("ok", False))
            states.append(
                (component.title, is_well, ", ".join(f"{k}: {v}" for k, v in facts.items()))
            )
        return states


def _described(section: Any) -> tuple[str, Any]:
    """The section with its kind, by which the template chooses."""
    kind = (
        "facts" if isinstance(section, Facts) else "table" if isinstance(section, Table) else "text"
    )
    return kind, section


def _href(request: Request, component: Component, link: Link) -> str:
    query = f"?{urlencode(dict(link.query))}" if link.query else ""
    root = request.scope.get("root_path", "")
    return f"{root}/console/part/{component.name}/{link.page}{query}"


async def _body(request: Request, most: int) -> bytes:
    return await RequestBody(request.scope, request.receive, max_bytes=most).read()

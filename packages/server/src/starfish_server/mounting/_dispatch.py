"""From an ASGI request to an answer by the shortest way.

FastAPI's own routes solve dependencies, validate answers and open exit stacks, and are tried one
after the other. Here one route finds the handler of any path in a table and answers in raw ASGI.
Whatever an application adds when it includes the router, such as a dependency that demands a
login, still holds: then the request takes FastAPI's way to the same handler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from starfish_http.answers import Answer, send_answer
from starfish_http.errors import (
    PROBLEM_MEDIA_TYPE,
    ClientDisconnectedError,
    HttpError,
    code_of_status,
    problem,
)
from starfish_http.events import EventStream
from starfish_http.paths import PathTable
from starfish_server.errors import ServerError
from starfish_server.requests._answers import StreamedAnswer, error_answer
from starfish_server.requests._error_responses import answer_to
from starfish_server.requests._request_context import Handler, RequestContext, Services

__all__ = (
    "DISPATCH_METHODS",
    "DISPATCH_PATH",
    "Dispatcher",
    "DocumentedRoute",
    "SyncRouter",
    "dispatch_route_class",
)

_LOG = logging.getLogger(__name__)
_PATH = "starfish_path"
_FOUND = "starfish_server.found"
_KNOWN = "starfish_server.known"
_PROBLEM = (b"content-type", PROBLEM_MEDIA_TYPE.encode())
_NO_SUCH_METHOD = problem(
    405,
    code_of_status(405),
    "the path does not take this method; the header Allow lists those that it takes",
)
_WRITES = frozenset({"POST", "DELETE"})
DISPATCH_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


class _AnythingConvertor(Convertor[str]):
    """All the rest of a path, line breaks included, so that they are refused and not overlooked."""

    regex = r"(?s:.*)"

    @override
    def convert(self, value: str) -> str:
        return value

    @override
    def to_string(self, value: str) -> str:
        return value


register_url_convertor("starfish_anything", _AnythingConvertor())
DISPATCH_PATH = f"/{{{_PATH}:starfish_anything}}"
"""Path of the one route that answers."""


@dataclass(slots=True)
class _Route:
    """The handlers of a path, one a method, and how much of the path is not the document's."""

    handlers: dict[str, Handler]
    skip: int
    documented: APIRoute | None = None

    def allow(self) -> bytes:
        return ", ".join(sorted({*self.handlers, "OPTIONS"})).encode()


@dataclass(frozen=True, slots=True)
class _Found:
    route: _Route
    rest: str
    params: dict[str, str]


async def _no_collection(_request: RequestContext) -> Answer:
    return error_answer(404, "Collection not found")


class Dispatcher:
    """The routes of one router, and the way to them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._table: PathTable[_Route] = PathTable()
        self._prefixes: set[str] = set()

    def add(self, prefix: str, path: str, method: str, handler: Handler) -> None:
        """Answer a method at ``prefix`` and ``path``; ``GET`` answers ``HEAD`` too."""
        template = prefix + path
        found = self._table.get(template)
        route = found if found is not None else _Route({}, len(prefix))
        route.handlers[method] = handler
        if method == "GET":
            route.handlers["HEAD"] = handler
        self._table.add(template, route)

    def claim(self, prefix: str) -> None:
        """Answer 404 where a path begins so and has no route, rather than leave it to others."""
        self._prefixes.add(prefix)

    def document(self, template: str, documented: APIRoute) -> None:
        """Tell which documented route a path belongs to, for readers of ``scope["route"]``."""
        found = self._table.get(template)
        if found is not None:
            found.documented = documented

    def find(self, path: str) -> _Found | None:
        """The route of a path, without its leading slash."""
        found = self._table.find(path)
        if found is not None:
            route, params = found
            return _Found(route, path[route.skip :], params)
        for prefix in self._prefixes:
            if path.startswith(prefix):
                nothing: dict[str, Handler] = dict.fromkeys(DISPATCH_METHODS, _no_collection)
                # The whole rest stands for a parameter, so that an unsafe one is still a 400.
                return _Found(_Route(nothing, len(prefix)), path[len(prefix) :], {})
        return None

    async def refusal_of_stranger(self, scope: Scope, receive: Receive) -> Answer | None:
        """The answer to a request for none of these routes, when its caller has sent too many."""
        try:
            await RequestContext(self._services, scope, receive, "", {}).count_for_server()
        except (ServerError, HttpError) as error:
            return answer_to(error)
        return None

    async def respond(self, found: _Found, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request in raw ASGI."""
        method = scope["method"]
        handler = found.route.handlers.get(method)
        if handler is None:
            allow = [(b"allow", found.route.allow())]
            if method == "OPTIONS":
                await send_answer(send, Answer(204, b"", allow))
            else:
                await send_answer(send, Answer(405, _NO_SUCH_METHOD, [_PROBLEM, *allow]))
            return
        request = RequestContext(self._services, scope, receive, found.rest, found.params)
        try:
            answer = await _answered(handler, request)
        except ClientDisconnectedError:
            return
        if isinstance(answer, EventStream):
            if method == "HEAD":
                await send_answer(send, Answer(200, b"", answer.headers), without_body=True)
            else:
                await answer(scope, receive, send)
            return
        if isinstance(answer, StreamedAnswer):
            try:
                await answer.run(send, without_body=method == "HEAD")
            except ServerError as error:
                _LOG.error("an answer ends early: %s", error)
                raise
            return
        await send_answer(send, answer, without_body=method == "HEAD")


async def _answered(
    handler: Handler, request: RequestContext
) -> Answer | EventStream | StreamedAnswer:
    """The answer of a handler, or that for its error."""
    try:
        await request.count_for_server()
        answer = await handler(request)
        if (
            request.scope["method"] in _WRITES
            and isinstance(answer, Answer)
            and answer.status == 200
        ):
            await request.remember_writer()
    except ClientDisconnectedError:
        raise
    except (ServerError, HttpError) as error:
        return answer_to(error)
    except Exception:  # noqa: BLE001 - a plugin's or our own fault is a 500 without a trace
        _LOG.exception("%s of a sync route failed", request.scope["method"])
        return error_answer(500, "Internal server error")
    return answer


class SyncRouter(APIRouter):
    """An `APIRouter` that remembers what it found when it was asked whether a path is its own."""

    def __init__(self, dispatcher: Dispatcher, **options: Any) -> None:
        super().__init__(**options)
        self.dispatcher = dispatcher

    @override
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        known: _Known | None = scope.get(_KNOWN)
        if (
            known is not None
            and known.path == scope["path"]
            and _is_plainly_included(known.inclusion)
        ):
            scope["path_params"] = known.child_scope["path_params"]
            found: _Found = known.child_scope[_FOUND]
            if found.route.documented is not None:
                scope["route"] = found.route.documented
            await self.dispatcher.respond(found, scope, receive, send)
        else:
            await super().handle(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Known:
    """The route found for a request, and how the router had been included there."""

    inclusion: Any
    path: str
    child_scope: dict[str, Any]


class _RawResponse(Response):
    """Answers when FastAPI has done its part."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._dispatcher.respond(scope[_FOUND], scope, receive, send)


def endpoint_of(dispatcher: Dispatcher) -> Callable[[Request], Any]:
    """The FastAPI endpoint that leads to the same handlers."""

    async def dispatch(_request: Request) -> Response:
        return _RawResponse(dispatcher)

    return dispatch


def dispatch_route_class(dispatcher: Dispatcher) -> type[APIRoute]:
    """The class of the route that answers everything."""

    class DispatchRoute(APIRoute):
        @override
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            match, child_scope = super().matches(scope)
            if match == Match.NONE:
                return match, child_scope
            found = dispatcher.find(child_scope["path_params"].pop(_PATH))
            if found is None:
                return Match.NONE, {}
            child_scope["path_params"].update(found.params)
            child_scope[_FOUND] = found
            inclusion = scope.get("fastapi", {}).get("effective_route_context")
            if getattr(inclusion, "original_route", None) is self:
                scope[_KNOWN] = _Known(inclusion, scope["path"], dict(child_scope))
            return Match.FULL, child_scope

    return DispatchRoute


def _is_plainly_included(inclusion: object) -> bool:
    """Whether including the router added nothing that FastAPI would have to do.

    Where this cannot be told, the answer is `False`: then only speed is lost.
    """
    return (
        getattr(inclusion, "dependencies", None) == []
        and getattr(inclusion, "max_body_size", 0) is None
    )


class DocumentedRoute(APIRoute):
    """A path of the OpenAPI document; requests to it are answered by the dispatching route."""

    @override
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return Match.NONE, {}

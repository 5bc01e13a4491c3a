"""OpenTelemetry spans of an edge, one a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any

from starlette.types import Scope
from typing_extensions import override

from starfish_http.middleware import Observer

try:
    from opentelemetry import context, propagate, trace
except ModuleNotFoundError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        "starfish_http.tracing needs the extra metrics: "
        'pip install --find-links dist "starfish-http[metrics]"'
    ) from error

__all__ = ("Tracing",)


class Tracing(Observer):
    """A server span around each request; an observer of `starfish_http.middleware.with_edge`.

    The span is current while the application answers, is named after method and route, and carries
    the attributes of the HTTP conventions without query, headers or addresses. It continues the trace of
    ``traceparent``.

    Args:
        tracer: makes the spans; ``None`` for that of the global provider.
        route: names the route of a request.
    """

    def __init__(
        self,
        tracer: trace.Tracer | None = None,
        *,
        route: Callable[[Scope], str | None] | None = None,
    ) -> None:
        self._tracer = tracer or trace.get_tracer("starfish_http")
        self._route = route or _route_of

    @override
    def begin(self, scope: Scope) -> tuple[trace.Span, Token[context.Context]]:
        """Start the span and make it the current one."""
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in {b"traceparent", b"tracestate"}
        }
        parent = propagate.extract(carrier) if carrier else None
        attributes: Mapping[str, Any] = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": scope.get("scheme", "http"),
        }
        span = self._tracer.start_span(
            scope["method"], parent, kind=trace.SpanKind.SERVER, attributes=attributes
        )
        return span, context.attach(trace.set_span_in_context(span))

    @override
    def end(
        self,
        scope: Scope,
        begun: tuple[trace.Span, Token[context.Context]],
        status: int,
        seconds: float,
    ) -> None:
        """End it with the status of the answer."""
        span, token = begun
        context.detach(token)
        route = self._route(scope)
        if route is not None:
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)
        if status:
            span.set_attribute("http.response.status_code", status)
        if status >= 500 or status == 0:
            span.set_status(trace.StatusCode.ERROR)
        span.end()


def _route_of(scope: Scope) -> str | None:
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else None

"""Prometheus metrics of an edge: requests, their time, and how many are being answered.

With several workers, set ``PROMETHEUS_MULTIPROC_DIR`` to an empty folder before the start: then any of them
answers for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from starlette.types import Scope
from typing_extensions import override

from starfish_http.answers import Answer, bytes_answer
from starfish_http.middleware import Observer

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        generate_latest,
    )
    from prometheus_client.multiprocess import MultiProcessCollector
except ModuleNotFoundError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        "starfish_http.metrics needs the extra metrics: "
        'pip install --find-links dist "starfish-http[metrics]"'
    ) from error

__all__ = ("Metrics", "route_of")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


def route_of(scope: Scope) -> str:
    """The template of the route that answered, ``unmatched`` where there was none.

    Never the path itself: its values would make a metric each.
    """
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unmatched"


class Metrics(Observer):
    """Counts requests for Prometheus; an observer of `starfish_http.middleware.with_edge`.

    ``http_requests_total`` and ``http_request_seconds`` by method, route and status,
    ``http_requests_in_progress``.

    Args:
        registry: where they are registered; ``None`` for a registry of their own.
        route: names the route of a request; must have few different values.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, route: Callable[[Scope], str] = route_of
    ) -> None:
        self._registry = CollectorRegistry() if registry is None else registry
        self._route = route
        labels = ("method", "route", "status")
        self._requests = Counter(
            "http_requests", "Requests answered", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "http_request_seconds",
            "Time from the head of a request to the last byte of its answer",
            labels,
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._in_progress = Gauge(
            "http_requests_in_progress",
            "Requests being answered",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    @override
    def begin(self, scope: Scope) -> None:
        """Count a request that is being answered."""
        self._in_progress.inc()

    @override
    def end(self, scope: Scope, begun: None, status: int, seconds: float) -> None:
        """Count its answer."""
        self._in_progress.dec()
        method = scope["method"]
        key = (method if method in _METHODS else "other", self._route(scope), status)
        found = self._known.get(key)
        if found is None:
            labels = (*key[:2], str(status) if status else "none")
            found = (self._requests.labels(*labels), self._seconds.labels(*labels))
            self._known[key] = found
        found[0].inc()
        found[1].observe(seconds)

    def answer(self) -> Answer:
        """The metrics as Prometheus reads them: what a route ``/metrics`` answers."""
        registry = self._registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            collect: Callable[[CollectorRegistry], object] = MultiProcessCollector
            collect(registry)
        return bytes_answer(200, generate_latest(registry), CONTENT_TYPE_LATEST, [])

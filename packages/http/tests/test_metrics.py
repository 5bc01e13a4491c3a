from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from prometheus_client.parser import text_string_to_metric_families

from starfish_http.metrics import Metrics
from starfish_http.middleware import with_edge
from starfish_http.tracing import Tracing


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()

    @app.get("/notes/{note}")
    async def note(note: int) -> str:
        if note == 7:
            raise ZeroDivisionError
        span = trace.get_current_span()
        return f"{span.get_span_context().trace_id:x}"

    return app


def client(app: object) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://x")


async def test_requests_are_counted_by_method_route_and_status(app: FastAPI) -> None:
    metrics = Metrics()
    async with client(with_edge(app, observers=[metrics])) as http:
        for path in ("/notes/1", "/notes/2", "/notes/x", "/none", "/notes/7"):
            await http.get(path)
        await http.request("BREW", "/notes/1")

    text = metrics.answer().body.decode()

    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "bucket" not in sample.name and "created" not in sample.name
    }
    assert samples["http_requests_total", "/notes/{note}", "200", "GET"] == 2
    assert samples["http_requests_total", "/notes/{note}", "422", "GET"] == 1
    assert samples["http_requests_total", "404", "GET", "unmatched"] == 1
    assert samples["http_requests_total", "/notes/{note}", "500", "GET"] == 1
    assert samples["http_request_seconds_count", "/notes/{note}", "200", "GET"] == 2
    assert samples["http_requests_in_progress",] == 0
    assert "BREW" not in text


def test_several_processes_are_counted_together(tmp_path: Path) -> None:
    script = """
import asyncio, os, sys
from starfish_http.metrics import Metrics
metrics = Metrics()
scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
for _ in range(2):
    if os.fork() == 0:
        metrics.end(scope, metrics.begin(scope), 200, 0.1)
        os._exit(0)
for _ in range(2):
    os.wait()
sys.stdout.write(metrics.answer().body.decode())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    assert 'http_requests_total{method="GET",route="unmatched",status="200"} 2.0' in done.stdout


class Span(trace.NonRecordingSpan):
    def __init__(self, name: str, parent: object, attributes: dict[str, object]) -> None:
        super().__init__(trace.SpanContext(0xABC, 0x1, is_remote=False))
        self.name = name
        self.parent = parent
        self.found = attributes
        self.ended = False
        self.failed = False

    def update_name(self, name: str) -> None:
        self.name = name

    def set_attribute(self, key: str, value: object) -> None:
        self.found[key] = value

    def set_status(self, status: object, description: str | None = None) -> None:
        self.failed = status is trace.StatusCode.ERROR

    def end(self, end_time: int | None = None) -> None:
        self.ended = True


class Tracer(trace.NoOpTracer):
    """Keeps the spans that it made."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def start_span(self, name, context=None, kind=None, attributes=None, **_more):  # type: ignore[no-untyped-def, override]
        self.spans.append(Span(name, context, dict(attributes)))
        return self.spans[-1]


async def test_a_request_is_a_span_named_after_its_route(app: FastAPI) -> None:
    tracer = Tracer()
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    async with client(with_edge(app, observers=[Tracing(tracer)])) as http:
        answer = await http.get("/notes/1?ticket=secret", headers=parent)
        await http.get("/notes/7")
        await http.get("/none")

    first, failed, unmatched = tracer.spans
    assert answer.json() == "abc"
    assert first.name == "GET /notes/{note}"
    assert first.found == {
        "http.request.method": "GET",
        "url.path": "/notes/1",
        "url.scheme": "http",
        "http.route": "/notes/{note}",
        "http.response.status_code": 200,
    }
    remote = trace.get_current_span(first.parent).get_span_context()  # type: ignore[arg-type]
    assert f"{remote.trace_id:x}" == "af7651916cd43dd8448eb211c80319c"
    assert (first.ended, first.failed, failed.failed) == (True, False, True)
    assert unmatched.name == "GET"
    assert trace.get_current_span() is trace.INVALID_SPAN

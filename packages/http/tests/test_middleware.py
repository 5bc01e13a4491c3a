from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import Response
from starlette.types import ASGIApp

from starfish_http.errors import AuthError, problem_handlers
from starfish_http.middleware import AccessLog, Cors, Edge, with_edge

ORIGIN = "https://app.example"


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(exception_handlers=problem_handlers())

    @app.get("/notes/{note}")
    async def note(note: int) -> Response:
        if note == 2:
            raise AuthError
        if note == 3:
            return Response(status_code=304, headers={"vary": "accept"})
        return Response("{}", headers={"etag": '"a"'})

    return app


async def ask(app: ASGIApp, method: str, path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=named) as http:
        return await http.request(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/notes/1"), ("GET", "/notes/2"), ("GET", "/notes/3"), ("GET", "/none"), ("DELETE", "/notes/1")],
)  # fmt: skip
async def test_every_answer_to_a_named_origin_can_be_read_by_its_page(
    app: FastAPI, method: str, path: str
) -> None:
    answer = await ask(with_edge(app, cors=Cors([ORIGIN])), method, path, origin=ORIGIN)

    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "ETag" in answer.headers["access-control-expose-headers"]
    assert "origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["https://other.example", "null", "https://app.example.evil", ""]
)
async def test_another_origin_is_told_nothing(app: FastAPI, origin: str) -> None:
    edge = with_edge(app, cors=Cors([ORIGIN]))
    for method in ("GET", "OPTIONS"):
        answer = await ask(
            edge, method, "/notes/1", origin=origin, access_control_request_method="GET"
        )

        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "origin"


async def test_a_question_before_a_request_is_answered_for_every_path(app: FastAPI) -> None:
    edge = with_edge(app, cors=Cors([ORIGIN], max_age_s=60))

    answer = await ask(edge, "OPTIONS", "/any", origin=ORIGIN, access_control_request_method="POST")

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    for name in ("authorization", "if-match", "if-none-match", "last-event-id", "content-type"):
        assert name in answer.headers["access-control-allow-headers"].lower()
    assert answer.headers["access-control-max-age"] == "60"


async def test_every_origin_has_to_be_written_as_a_star(app: FastAPI) -> None:
    answer = await ask(with_edge(app, cors=Cors(["*"])), "GET", "/notes/1", origin="https://any")

    assert answer.headers["access-control-allow-origin"] == "*"
    assert "vary" not in answer.headers


@pytest.mark.parametrize(
    "origins", [["app.example"], ["https://a/b"], ["https://*.example"], ["*", ORIGIN], [""], ["https://a b"]]
)  # fmt: skip
def test_an_origin_that_is_not_one_is_refused(origins: list[str]) -> None:
    with pytest.raises(ValueError, match="refused"):
        Cors(origins)


def test_a_slash_at_the_end_of_an_origin_is_forgiven() -> None:
    assert Cors([f"{ORIGIN}/", "http://[::1]:80"]).origins == (ORIGIN, "http://[::1]:80")


async def test_a_request_keeps_its_id_or_gets_one(app: FastAPI) -> None:
    edge = with_edge(app, request_ids=True)

    own = await ask(edge, "GET", "/notes/1", x_request_id="abc-1")
    made = [(await ask(edge, "GET", "/none")).headers["x-request-id"] for _ in range(3)]
    forged = await ask(edge, "GET", "/none", x_request_id="a b" * 30)

    assert own.headers["x-request-id"] == "abc-1"
    assert len({*made, forged.headers["x-request-id"]}) == 4


async def test_answers_are_not_sniffed_or_framed(app: FastAPI) -> None:
    answer = await ask(with_edge(app), "GET", "/notes/1")

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"


def test_where_there_is_nothing_around_an_application_it_is_itself(app: FastAPI) -> None:
    assert with_edge(app, headers=()) is app
    assert isinstance(with_edge(app), Edge)


async def test_the_access_log_has_a_line_a_request_and_never_a_query(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    edge = with_edge(app, request_ids=True, observers=[AccessLog()])
    with caplog.at_level(logging.INFO, "starfish_http.access"):
        await ask(edge, "GET", "/notes/2?ticket=secret", x_request_id="r1")
        await ask(edge, "GET", "/a%0ab\u00e9")

    lines = [each.getMessage() for each in caplog.records if each.name == "starfish_http.access"]
    assert lines[0].startswith("GET /notes/2 401 ")
    assert lines[0].endswith(" r1")
    assert len(lines) == 2
    assert "secret" not in caplog.text
    assert "\n" not in lines[1]


class Watching:
    def __init__(self) -> None:
        self.ends: list[tuple[Any, int]] = []

    def begin(self, scope: Any) -> str:
        return str(scope["path"])

    def end(self, scope: Any, begun: str, status: int, seconds: float) -> None:
        self.ends.append((begun, status))
        raise ZeroDivisionError


async def test_who_watches_does_not_break_the_answer(app: FastAPI) -> None:
    watching = Watching()

    answer = await ask(with_edge(app, observers=[watching, watching]), "GET", "/notes/1")

    assert answer.status_code == 200
    assert watching.ends == [("/notes/1", 200)] * 2


async def test_a_request_that_was_not_answered_has_no_status() -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ZeroDivisionError

    watching = Watching()
    with pytest.raises(ZeroDivisionError):
        await with_edge(app, observers=[watching])(
            {"type": "http", "path": "/", "method": "GET", "headers": []},
            None,
            None,  # type: ignore[arg-type]
        )

    assert watching.ends == [("/", 0)]


async def test_a_lifespan_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    await with_edge(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]

    assert seen == ["lifespan"]

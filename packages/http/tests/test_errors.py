from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from starfish_http.errors import (
    AuthError,
    ClientDisconnectedError,
    RequestRefusedError,
    problem,
    problem_handlers,
    refusal_of,
)


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(exception_handlers=problem_handlers(RequestValidationError))

    @app.get("/notes/{note}")
    async def note(note: int) -> int:
        if note == 1:
            raise RequestRefusedError(409, "conflict", "the note is taken", by="eve")
        if note == 2:
            raise AuthError
        if note == 3:
            raise HTTPException(418, {"a": 1})
        if note == 4:
            raise ZeroDivisionError
        return note

    return app


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/notes/1", 405, "method_not_allowed"),
        ("GET", "/notes/x", 422, "invalid_request"),
        ("GET", "/notes/1", 409, "conflict"),
        ("GET", "/notes/2", 401, "unauthenticated"),
        ("GET", "/notes/3", 418, "http_418"),
        ("GET", "/notes/4", 500, "internal_error"),
    ],
)
async def test_every_refusal_of_an_application_has_one_shape(
    app: FastAPI, method: str, path: str, status: int, code: str
) -> None:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        answer = await http.request(method, path)

    body = answer.json()
    assert (answer.status_code, body["error"], body["status"]) == (status, code, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert isinstance(body["detail"], str)
    assert answer.content.startswith(b'{"error":')
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    if status == 405:
        assert answer.headers["allow"] == "GET"
    if status == 409:
        assert body["by"] == "eve"


def test_a_text_that_is_not_unicode_does_not_break_the_answer_about_it() -> None:
    body = problem(404, "not_found", "there is nothing called \udcff", name="\ud800")

    assert json.loads(body)["name"] == "\ud800"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestRefusedError(416, "range_not_satisfiable", "no"), 416),
        (ClientDisconnectedError(), 499),
        (HTTPException(404), 404),
        (ValueError("secret"), 500),
    ],
)
def test_every_error_becomes_a_refusal(error: Exception, status: int) -> None:
    refusal = refusal_of(error)

    assert refusal.status == status
    assert b"secret" not in refusal.body()


def test_a_refusal_says_what_it_is() -> None:
    error: Any = RequestRefusedError(413, "body_too_large", "too large", leaves_body_unread=True)

    assert str(error) == "413 body_too_large: too large"
    assert error.headers == {"connection": "close"}

"""One table says which answer an error becomes; nothing becomes a 500."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")

from starlette.requests import Request

import starfish_mpack_wire
from starfish_mpack_wire.errors import MPackError
from starfish_mpack_wire.server._answers import _FIELDS, error_answer

for found in pkgutil.walk_packages(starfish_mpack_wire.__path__, "starfish_mpack_wire."):
    if found.name.rpartition(".")[2] == "errors":
        importlib.import_module(found.name)


def every_error(base: type[MPackError] = MPackError) -> list[type[MPackError]]:
    return [base, *(each for below in base.__subclasses__() for each in every_error(below))]


def made(cls: type[MPackError]) -> MPackError:
    """An instance without its facts; the fields that an answer names are there as text."""
    error = cls.__new__(cls, "text")
    for name in (*_FIELDS.get(cls, ()), "what", "kind"):
        setattr(error, name, "text")
    error.retry_after_s = 7  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("cls", every_error(), ids=lambda cls: cls.__name__)
def test_every_error_has_an_answer_that_is_no_500(cls: type[MPackError]) -> None:
    request = Request({"type": "http", "method": "GET", "headers": []})

    answer = error_answer(request, made(cls))

    assert 400 <= answer.status_code < 500 or answer.status_code == 503
    assert b'"error":"' in answer.body
    if answer.status_code in (429, 503):
        assert int(answer.headers["retry-after"]) > 0

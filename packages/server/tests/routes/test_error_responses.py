"""Every error of the package has its answer."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import orjson
import pytest

import starfish_server
from starfish_server import ServerError, StoreUnavailableError
from starfish_server.documents._errors import AppendRefusedError, DamagedDocumentError
from starfish_server.requests._error_responses import RESPONSES, answer_to


def server_errors() -> Iterator[type[ServerError]]:
    for info in pkgutil.walk_packages(starfish_server.__path__, "starfish_server."):
        if info.name.rpartition(".")[2] in {"errors", "_refusals"}:
            importlib.import_module(info.name)
    pending = [ServerError]
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        if cls.__module__.startswith("starfish_server."):
            yield cls


@pytest.mark.parametrize("error", list(server_errors()), ids=lambda cls: cls.__name__)
def test_every_error_has_a_row(error: type[ServerError]) -> None:
    assert error in RESPONSES


def test_a_subclass_without_a_row_is_answered_as_its_base() -> None:
    class OurError(AppendRefusedError):
        pass

    answer = answer_to(OurError("no"))

    assert (answer.status, orjson.loads(answer.body)) == (400, {"error": "no"})


@pytest.mark.parametrize(
    "error",
    [
        ServerError("secret"),
        StoreUnavailableError("/secret", "secret"),
        DamagedDocumentError("secret", "secret"),
    ],
)
def test_our_faults_are_503_and_stay_in_the_log(
    error: ServerError, caplog: pytest.LogCaptureFixture
) -> None:
    answer = answer_to(error)

    assert answer.status == 503
    assert b"secret" not in answer.body
    assert "secret" in caplog.text

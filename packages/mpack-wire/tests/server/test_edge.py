"""`mpack serve` keeps what every serve command owes: bounds on slow and silent clients, and an end in time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")
pytest.importorskip("uvicorn", reason="needs the extra cli")

from starfish_http.testing import EdgeContract
from starfish_mpack_wire.server import create_repo

pytestmark = pytest.mark.network


class TestServe(EdgeContract):
    body_path = "/ada/notes/fetch"

    @pytest.fixture
    def command(self, tmp_path: Path) -> list[str]:
        create_repo(tmp_path / "srv", "ada/notes")
        main = "from starfish_mpack_wire.cli import main; main()"
        return [sys.executable, "-c", main, "serve", "--data", str(tmp_path / "srv"), "--port", "0"]

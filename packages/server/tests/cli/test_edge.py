"""``starfish-server run`` keeps the contract of an HTTP edge."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from starfish_http.testing import EdgeContract


@pytest.mark.slow
class TestRun(EdgeContract):
    body_path: ClassVar[str] = "/push/wall/1"
    drain_s: ClassVar[float] = 5.0

    def assert_refusal_of_a_body(self, answer: bytes) -> None:
        """The public protocol fixes the bodies of its own refusals."""
        assert json.loads(answer.rpartition(b"\r\n\r\n")[2]) == {"error": "Payload too large"}

    @pytest.fixture
    def command(self, tmp_path: Path) -> Sequence[str | Path]:
        wall = {"name": "wall", "storagePath": "wall/{id}", "writeRoles": ["public"]}
        config = tmp_path / "starfish.json"
        config.write_text(json.dumps({"collections": [wall]}))
        run = [sys.executable, "-m", "starfish_server", "run", "--config", config, "--port", "0"]
        return [*run, "--data", tmp_path / "data", "--drain", "5"]

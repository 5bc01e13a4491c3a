"""The composed service keeps the contract of an HTTP edge."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from starfish_http.testing import EdgeContract

SERVICE = Path(__file__).parents[2] / "docs/demo/service.py"


@pytest.mark.network
@pytest.mark.slow
class TestService(EdgeContract):
    body_path: ClassVar[str] = "/push/pages/1"

    def assert_refusal_of_a_body(self, answer: bytes) -> None:
        """The public protocol fixes the bodies of its own refusals."""
        assert json.loads(answer.rpartition(b"\r\n\r\n")[2]) == {"error": "Payload too large"}

    @pytest.fixture
    def command(self, tmp_path: Path) -> Sequence[str | Path]:
        return [sys.executable, SERVICE, "--data", tmp_path, "--port", "0"]

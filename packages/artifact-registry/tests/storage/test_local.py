"""A folder of content: the contract, and what only a folder can get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from starfish_artifact_registry.storage import LocalBackend
from starfish_artifact_registry.testing import BackendContract


class TestLocalBackend(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "evidence" / "content")

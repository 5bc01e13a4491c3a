"""Suites to inherit from: what every backend of content must do."""

from starfish_artifact_registry.testing._backend_contract import (
    BackendContract,
    content,
    read_all,
    stream_of,
)

__all__ = ("BackendContract", "content", "read_all", "stream_of")

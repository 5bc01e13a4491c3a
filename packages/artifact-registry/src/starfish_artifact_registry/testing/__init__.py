"""Suites to inherit from: what every backend of content must do."""

from starfish_artifact_registry.testing.backend_contract import BackendContract

__all__ = ("BackendContract",)

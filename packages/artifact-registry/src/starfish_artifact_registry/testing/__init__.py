"""Suites to inherit from: what every backend of content must do."""

try:
    from starfish_artifact_registry.testing._backend_contract import (
        BackendContract,
        content,
        read_all,
        stream_of,
    )
except ImportError as error:
    if error.name is None or error.name.startswith("starfish_"):
        raise
    message = (
        "starfish_artifact_registry.testing needs the extra testing: "
        'pip install --find-links dist "starfish-artifact-registry[testing]"'
    )
    raise ImportError(message) from error

__all__ = ("BackendContract", "content", "read_all", "stream_of")

"""The data plane: content in and out of a backend, in this process."""

from starfish_artifact_registry.storage._dataplane import InProcessDataPlane

__all__ = ("InProcessDataPlane",)

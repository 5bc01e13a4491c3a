"""Where content lives: a folder, or an object store."""

from starfish_artifact_registry.storage._base import ContentBackend, ContentInfo, StoredContent
from starfish_artifact_registry.storage._copying import CopyReport, copy_content
from starfish_artifact_registry.storage._local import LocalBackend

__all__ = (
    "ContentBackend",
    "ContentInfo",
    "CopyReport",
    "LocalBackend",
    "StoredContent",
    "copy_content",
)

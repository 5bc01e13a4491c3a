"""Packages to and from other worlds' layouts: BagIt bags and OCI image layouts."""

from starfish_artifact_registry.interchange._bagit import payload_path, read_bag, write_bag
from starfish_artifact_registry.interchange._oci import (
    ARTIFACT_TYPE,
    MANIFEST_TYPE,
    read_layout,
    write_layout,
)

__all__ = (
    "ARTIFACT_TYPE",
    "MANIFEST_TYPE",
    "payload_path",
    "read_bag",
    "read_layout",
    "write_bag",
    "write_layout",
)

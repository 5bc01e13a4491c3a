"""Packages to and from other worlds' layouts: BagIt bags and OCI image layouts."""

from starfish_artifact_registry.interchange._bagit import payload_path
from starfish_artifact_registry.interchange._oci import ARTIFACT_TYPE, MANIFEST_TYPE

__all__ = ("ARTIFACT_TYPE", "MANIFEST_TYPE", "payload_path")

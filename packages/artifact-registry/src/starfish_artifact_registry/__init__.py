"""Packages of files as evidence: an append-only event log, content by hash, and proof.

Names are imported when they are first used, so that checking a proof needs no database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from starfish_artifact_registry.commands._garbage import GarbageReport
    from starfish_artifact_registry.db.engine import create_engine
    from starfish_artifact_registry.db.schema import create_schema
    from starfish_artifact_registry.fixity import FixityProgress, FixityReport, FixitySummary
    from starfish_artifact_registry.interchange._transfer import TransferProgress
    from starfish_artifact_registry.limits import Limits
    from starfish_artifact_registry.log._hash_chain import LogReport
    from starfish_artifact_registry.log._source import LogSource
    from starfish_artifact_registry.model._checkpoint import Checkpoint
    from starfish_artifact_registry.model._event_codec import Event
    from starfish_artifact_registry.model._manifest import Manifest
    from starfish_artifact_registry.proof._verify import PackageProof, verify_proof
    from starfish_artifact_registry.registry import Registry
    from starfish_artifact_registry.registry._log import AuditReport
    from starfish_artifact_registry.storage._base import ContentBackend
    from starfish_artifact_registry.storage._dataplane import InProcessDataPlane
    from starfish_artifact_registry.storage._local import LocalBackend
    from starfish_artifact_registry.views._audit import Difference
    from starfish_artifact_registry.views._files import FileRecord
    from starfish_artifact_registry.views._query import Hold, PackageRecord
    from starfish_artifact_registry.views._replay import replay
    from starfish_artifact_registry.views._writer import RegistryViewWriter, ViewWriter

__version__ = "0.1.0"
__all__ = (
    "AuditReport",
    "Checkpoint",
    "ContentBackend",
    "Difference",
    "Event",
    "FileRecord",
    "FixityProgress",
    "FixityReport",
    "FixitySummary",
    "GarbageReport",
    "Hold",
    "InProcessDataPlane",
    "Limits",
    "LocalBackend",
    "LogReport",
    "LogSource",
    "Manifest",
    "PackageProof",
    "PackageRecord",
    "Registry",
    "RegistryViewWriter",
    "TransferProgress",
    "ViewWriter",
    "__version__",
    "create_engine",
    "create_schema",
    "replay",
    "verify_proof",
)
_HOMES: Final = {
    "AuditReport": "registry._log",
    "Difference": "views._audit",
    "Checkpoint": "checkpoint",
    "ContentBackend": "storage",
    "Event": "events",
    "FileRecord": "views._files",
    "FixityProgress": "fixity",
    "FixityReport": "fixity",
    "FixitySummary": "fixity",
    "GarbageReport": "commands._garbage",
    "Hold": "views._query",
    "InProcessDataPlane": "dataplane",
    "Limits": "limits",
    "LocalBackend": "storage",
    "LogReport": "log._hash_chain",
    "LogSource": "log._source",
    "Manifest": "manifest",
    "PackageProof": "proof",
    "PackageRecord": "views._query",
    "Registry": "registry",
    "RegistryViewWriter": "events",
    "TransferProgress": "interchange._transfer",
    "ViewWriter": "events",
    "create_engine": "db.engine",
    "create_schema": "db.schema",
    "replay": "events",
    "verify_proof": "proof",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found

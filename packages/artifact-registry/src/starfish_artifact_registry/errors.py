"""Errors of the registry.

* RegistryError
  - PackageNotFoundError            package_id
  - FileNotFoundInRegistryError     file_id
  - IllegalPackageStateError        package_id, status, action (also a ValueError)
  - DuplicateRelativePathError      package_id, relative_path (also a ValueError)
  - InvalidRelativePathError        relative_path (also a ValueError)
  - UnknownRetentionClassError      retention_class (also a ValueError)
  - PackageExistsError              package_id
  - RetentionError                  package_id
    - PackageHeldError              hold_ids
    - RetentionPeriodError          retain_until
  - HoldNotFoundError               package_id, hold_id
  - InvalidQueryError               a filter, cursor or limit (also a ValueError)
  - ContentNotFoundError            address, backend_id
  - ContentDamagedError             address, backend_id, actual
  - LogDamagedError                 sequence
  - ManifestError                   not a manifest of this version (also a ValueError)
  - CheckpointError                 malformed, or nobody trusted signed it (also a ValueError)
  - ProofError                      an exported proof that proves nothing (also a ValueError)
    - ProofFilesError               missing, changed
  - ExportRefusedError              path, reason
  - ImportRefusedError              path, reason: not what it says (also a ValueError)
  - StorageUnavailableError         backend_id: full, read-only, gone
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from starfish_protocol.errors import StarfishError

__all__ = (
    "CheckpointError",
    "ExportRefusedError",
    "HoldNotFoundError",
    "ImportRefusedError",
    "InvalidQueryError",
    "PackageExistsError",
    "PackageHeldError",
    "ProofError",
    "ProofFilesError",
    "RegistryError",
    "RetentionError",
    "RetentionPeriodError",
)


class RegistryError(StarfishError):
    """Base of every error that the registry raises on purpose."""


class PackageExistsError(RegistryError):
    """The registry already has a package of this id, alive or as a tombstone."""

    def __init__(self, package_id: UUID) -> None:
        super().__init__(
            f"package {package_id} is in this registry already; an import never replaces a package"
        )
        self.package_id = package_id
        """The id that both have."""


class RetentionError(RegistryError):
    """The rules of retention refuse it; the package is as before."""

    def __init__(self, package_id: UUID, sentence: str) -> None:
        super().__init__(f"package {package_id} {sentence}")
        self.package_id = package_id
        """The package that stays."""


class PackageHeldError(RetentionError):
    """A hold forbids it, whatever the date."""

    def __init__(self, package_id: UUID, hold_ids: tuple[UUID, ...]) -> None:
        names = ", ".join(str(hold_id) for hold_id in hold_ids)
        super().__init__(package_id, f"is under hold; release first: {names}")
        self.hold_ids = hold_ids
        """The holds that are in force, oldest first."""


class RetentionPeriodError(RetentionError):
    """Its retention date has not come."""

    def __init__(self, package_id: UUID, retain_until: datetime | None) -> None:
        when = "for ever" if retain_until is None else f"until {retain_until.isoformat()}"
        super().__init__(package_id, f"is retained {when}")
        self.retain_until = retain_until
        """From when on it may go, aware UTC; ``None`` when its class keeps it for ever."""


class HoldNotFoundError(RegistryError):
    """The package has no such hold in force: never placed, or released already."""

    def __init__(self, package_id: UUID, hold_id: UUID) -> None:
        super().__init__(f"package {package_id} has no hold {hold_id} in force")
        self.package_id = package_id
        """The package."""
        self.hold_id = hold_id
        """The hold that is not there."""


class InvalidQueryError(RegistryError, ValueError):
    """A filter, cursor or limit of a query is not legal."""


class CheckpointError(RegistryError, ValueError):
    """A checkpoint is malformed, its signature is wrong, or nobody trusted signed it."""


class ProofError(RegistryError, ValueError):
    """An exported proof proves nothing: malformed, changed, or not anchored as asked for."""


class ProofFilesError(ProofError):
    """The proof holds, and the files beside it are not those it speaks of."""

    def __init__(self, missing: tuple[str, ...], changed: tuple[str, ...]) -> None:
        named = [f"{path!r} is missing" for path in missing[:3]]
        named += [f"{path!r} has changed" for path in changed[:3]]
        left = len(missing) + len(changed) - len(named)
        more = f" and {left} more" if left else ""
        super().__init__(f"the files are not those of the proof: {', '.join(named)}{more}")
        self.missing = missing
        """Relative paths that the manifest names and the folder lacks."""
        self.changed = changed
        """Relative paths whose bytes are others than the manifest says."""


class ExportRefusedError(RegistryError):
    """A package cannot be written in this form or to this place; nothing is left there."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path!r:.300} cannot be exported: {reason}")
        self.path = path
        """The target, or the file of the package, that stands in the way."""
        self.reason = reason
        """Why."""


class ImportRefusedError(RegistryError, ValueError):
    """A bag or a layout does not hold what it says; no package was made."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path!r:.300} is refused: {reason}")
        self.path = path
        """The file or folder at fault, relative to what is imported."""
        self.reason = reason
        """Why."""

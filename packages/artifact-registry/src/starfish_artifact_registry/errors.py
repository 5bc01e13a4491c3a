"""Errors of the registry.

* RegistryError
  - PackageNotFoundError            package_id
  - FileNotFoundInRegistryError     file_id
  - IllegalPackageStateError        package_id, status, action (also a ValueError)
  - DuplicateRelativePathError      package_id, relative_path (also a ValueError)
  - InvalidRelativePathError        relative_path (also a ValueError)
  - UnknownRetentionClassError      retention_class (also a ValueError)
  - RetentionError                  package_id: under hold, or before its date
  - ContentNotFoundError            address, backend_id
  - ContentDamagedError             address, backend_id, actual
  - LogDamagedError                 sequence
  - ManifestError                   not a manifest of this version (also a ValueError)
  - ProofError                      an exported proof that proves nothing (also a ValueError)
  - ImportRefusedError              a bag or a layout that does not hold what it says (also a ValueError)
  - StorageUnavailableError         backend_id: full, read-only, gone
"""

from __future__ import annotations

from starfish_protocol.errors import StarfishError

__all__ = ("RegistryError",)


class RegistryError(StarfishError):
    """Base of every error that the registry raises on purpose."""

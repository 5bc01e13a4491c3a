"""One table: the stable code of each error and the HTTP status it is answered with.

Every subclass of `RegistryError` has its row, so that a new error cannot become a nameless 500
unnoticed. The command line says the same codes, and draws its exit status from the HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starfish_artifact_registry.errors import (
    CheckpointError,
    ClockNotConfirmedError,
    CommitUncertainError,
    ContentDamagedError,
    ContentNotFoundError,
    DatabaseReplacedError,
    DatabaseUnavailableError,
    DigestMismatchError,
    DuplicateRelativePathError,
    ExportRefusedError,
    FileNotFoundInRegistryError,
    ForeignDatabaseError,
    HoldNotFoundError,
    IllegalHistoryError,
    IllegalPackageStateError,
    ImportRefusedError,
    InvalidQueryError,
    InvalidRelativePathError,
    InvalidValueError,
    LogDamagedError,
    ManifestError,
    NotInitialisedError,
    PackageExistsError,
    PackageHeldError,
    PackageNotFoundError,
    ProofError,
    ProofFilesError,
    RegistryError,
    RegistryNotFoundError,
    RetentionError,
    RetentionPeriodError,
    SchemaRevisionError,
    StorageFullError,
    StorageUnavailableError,
    UnknownEventTypeError,
    UnknownRetentionClassError,
    ViewsDifferError,
)
from starfish_artifact_registry.model._json_form import json_form

__all__ = ("ERROR_CODES", "ErrorCode", "error_code", "error_facts")


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """How an error is told to a program."""

    code: str
    """Stable; a program may compare it."""
    status: int
    """HTTP status; from 500 on the fault is the service's and the client is told the code only."""


ERROR_CODES: Mapping[type[RegistryError], ErrorCode] = {
    RegistryError: ErrorCode("registry_error", 500),
    PackageNotFoundError: ErrorCode("package_not_found", 404),
    FileNotFoundInRegistryError: ErrorCode("file_not_found", 404),
    HoldNotFoundError: ErrorCode("hold_not_found", 404),
    RegistryNotFoundError: ErrorCode("registry_not_found", 404),
    IllegalPackageStateError: ErrorCode("illegal_package_state", 409),
    DuplicateRelativePathError: ErrorCode("duplicate_relative_path", 409),
    PackageExistsError: ErrorCode("package_exists", 409),
    RetentionError: ErrorCode("retention_forbids", 409),
    PackageHeldError: ErrorCode("package_held", 409),
    RetentionPeriodError: ErrorCode("retention_period", 409),
    ClockNotConfirmedError: ErrorCode("clock_not_confirmed", 409),
    InvalidRelativePathError: ErrorCode("invalid_relative_path", 400),
    InvalidValueError: ErrorCode("invalid_value", 400),
    InvalidQueryError: ErrorCode("invalid_query", 400),
    UnknownRetentionClassError: ErrorCode("unknown_retention_class", 400),
    ManifestError: ErrorCode("invalid_manifest", 400),
    CheckpointError: ErrorCode("invalid_checkpoint", 400),
    ProofError: ErrorCode("invalid_proof", 400),
    ProofFilesError: ErrorCode("proof_files_differ", 400),
    ExportRefusedError: ErrorCode("export_refused", 400),
    ImportRefusedError: ErrorCode("import_refused", 400),
    ContentNotFoundError: ErrorCode("content_missing", 500),
    ContentDamagedError: ErrorCode("content_damaged", 500),
    LogDamagedError: ErrorCode("log_damaged", 500),
    IllegalHistoryError: ErrorCode("illegal_history", 500),
    ViewsDifferError: ErrorCode("views_differ", 500),
    DigestMismatchError: ErrorCode("digest_mismatch", 400),
    UnknownEventTypeError: ErrorCode("unknown_event_type", 500),
    SchemaRevisionError: ErrorCode("schema_revision", 503),
    DatabaseUnavailableError: ErrorCode("database_unavailable", 503),
    CommitUncertainError: ErrorCode("commit_uncertain", 503),
    DatabaseReplacedError: ErrorCode("database_replaced", 503),
    ForeignDatabaseError: ErrorCode("foreign_database", 500),
    NotInitialisedError: ErrorCode("not_initialised", 500),
    StorageUnavailableError: ErrorCode("storage_unavailable", 503),
    StorageFullError: ErrorCode("storage_full", 507),
}


def error_code(error: RegistryError) -> ErrorCode:
    """The row of an error's class, or of the nearest class above it.

    Examples:
        >>> error_code(InvalidQueryError("no"))
        ErrorCode(code='invalid_query', status=400)
    """
    return next(ERROR_CODES[cls] for cls in type(error).__mro__ if cls in ERROR_CODES)


def error_facts(error: RegistryError) -> dict[str, Any]:
    """What the error knows, in JSON form: which package, which path, which limit."""
    return {name: json_form(fact) for name, fact in vars(error).items() if name[0] != "_"}

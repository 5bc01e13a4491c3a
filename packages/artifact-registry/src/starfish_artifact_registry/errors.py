"""Errors of the registry.

* RegistryError
  - PackageNotFoundError            package_id
  - FileNotFoundInRegistryError     file_id
  - IllegalPackageStateError        package_id, status, action (also a ValueError)
  - DuplicateRelativePathError      package_id, relative_path (also a ValueError)
  - InvalidRelativePathError        relative_path (also a ValueError)
  - UnknownRetentionClassError      retention_class, known (also a ValueError)
  - InvalidValueError               field (also a ValueError)
  - PackageExistsError              package_id
  - RetentionError                  package_id
    - PackageHeldError              hold_ids
    - RetentionPeriodError          retain_until
    - ClockNotConfirmedError        now, confirmed
  - HoldNotFoundError               package_id, hold_id
  - InvalidQueryError               a filter, cursor or limit (also a ValueError)
  - ContentNotFoundError            address, backend_id
  - ContentDamagedError             address, backend_id, actual
  - LogDamagedError                 sequence, reason
    - IllegalHistoryError           package_id: the event must not follow those before it
  - ViewsDifferError                differences: tables and log do not agree
  - DigestMismatchError             algorithm, expected, actual (also a ValueError)
  - UnknownEventTypeError           event_type
  - DatabaseUnavailableError        nothing was stored
    - CommitUncertainError          the connection was lost during the commit
    - DatabaseReplacedError         its file was moved, removed or replaced
  - ForeignDatabaseError            path, reason: a file of another application
  - NotInitialisedError             nobody has made the tables
  - ManifestError                   not a manifest of this version (also a ValueError)
  - CheckpointError                 malformed, or nobody trusted signed it (also a ValueError)
  - ProofError                      an exported proof that proves nothing (also a ValueError)
    - ProofFilesError               missing, changed
  - ExportRefusedError              path, reason
  - ImportRefusedError              path, reason: not what it says (also a ValueError)
  - StorageUnavailableError         backend_id, reason: read-only, gone
    - StorageFullError              no room, or a quota is used up
  - RegistryNotFoundError           place: nothing was made there yet
  - SchemaRevisionError             actual, expected: the tables are of another version
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from starfish_protocol.address import ContentAddress
from starfish_protocol.errors import StarfishError

__all__ = (
    "CheckpointError",
    "ClockNotConfirmedError",
    "CommitUncertainError",
    "ContentDamagedError",
    "ContentNotFoundError",
    "DatabaseReplacedError",
    "DatabaseUnavailableError",
    "DigestMismatchError",
    "DuplicateRelativePathError",
    "ExportRefusedError",
    "FileNotFoundInRegistryError",
    "ForeignDatabaseError",
    "HoldNotFoundError",
    "IllegalHistoryError",
    "IllegalPackageStateError",
    "ImportRefusedError",
    "InvalidQueryError",
    "InvalidRelativePathError",
    "InvalidValueError",
    "LogDamagedError",
    "ManifestError",
    "NotInitialisedError",
    "PackageExistsError",
    "PackageHeldError",
    "PackageNotFoundError",
    "ProofError",
    "ProofFilesError",
    "RegistryError",
    "RegistryNotFoundError",
    "RetentionError",
    "RetentionPeriodError",
    "SchemaRevisionError",
    "StorageFullError",
    "StorageUnavailableError",
    "UnknownEventTypeError",
    "UnknownRetentionClassError",
    "ViewsDifferError",
)


class RegistryError(StarfishError):
    """Base of every error that the registry raises on purpose."""


class PackageNotFoundError(RegistryError):
    """There is no package of this id."""

    def __init__(self, package_id: UUID) -> None:
        super().__init__(f"there is no package {package_id} in this registry")
        self.package_id = package_id
        """The id that was asked for."""


class FileNotFoundInRegistryError(RegistryError):
    """There is no file of this id, or its package was deleted."""

    def __init__(self, file_id: UUID) -> None:
        super().__init__(f"there is no file {file_id} in this registry")
        self.file_id = file_id
        """The id that was asked for."""


class IllegalPackageStateError(RegistryError, ValueError):
    """The package's status does not allow it; the package is as before."""

    def __init__(self, package_id: UUID, status: str, action: str) -> None:
        super().__init__(f"package {package_id} is {status}, so {action}")
        self.package_id = package_id
        """The package."""
        self.status = status
        """The status it has."""
        self.action = action
        """What cannot be done in it, and in which status it can."""


class DuplicateRelativePathError(RegistryError, ValueError):
    """The package already has a file at this path; that file stays."""

    def __init__(self, package_id: UUID, relative_path: str) -> None:
        super().__init__(f"package {package_id} already has a file at {relative_path!r:.300}")
        self.package_id = package_id
        """The package."""
        self.relative_path = relative_path
        """The path that is taken."""


class InvalidRelativePathError(RegistryError, ValueError):
    """A text is not a path that a package can hold."""

    def __init__(self, relative_path: object, reason: str) -> None:
        super().__init__(
            f"{relative_path!r:.300} is not a path of a file in a package: {reason}; it must be a "
            "relative POSIX path in NFC of at most 4096 bytes, such as 'logs/day-1.txt'"
        )
        self.relative_path = relative_path
        """The given value."""
        self.reason = reason
        """Its mistake."""


class UnknownRetentionClassError(RegistryError, ValueError):
    """The table of retention classes has no such class."""

    def __init__(self, retention_class: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"unknown retention class {retention_class!r:.100}; "
            f"known are {', '.join(known) or 'none: insert RETENTION_CLASS_SEEDS first'}"
        )
        self.retention_class = retention_class
        """The name that was given."""
        self.known = known
        """The names that are in the table, sorted."""


class InvalidValueError(RegistryError, ValueError):
    """A value of an event or a call is refused; the sentence says what it must be."""

    def __init__(self, field: str, value: object, legal: str) -> None:
        super().__init__(f"{field} is {value!r:.200}; it must be {legal}")
        self.field = field
        """Which value."""


class ManifestError(RegistryError, ValueError):
    """Bytes are not the deterministic CBOR of a manifest of a version that this code knows."""


class LogDamagedError(RegistryError):
    """The event log is not as it was written."""

    def __init__(self, sequence: int, reason: str) -> None:
        super().__init__(f"event {sequence} of the log is damaged: {reason}")
        self.sequence = sequence
        """Sequence of the first event that is not as it was written."""
        self.reason = reason
        """How that shows."""


class IllegalHistoryError(LogDamagedError):
    """An event must not follow those before it, although the digests fit."""

    def __init__(self, sequence: int, package_id: UUID, reason: str) -> None:
        super().__init__(sequence, f"in the history of package {package_id}: {reason}")
        self.package_id = package_id
        """The package whose history it breaks."""


class ViewsDifferError(RegistryError):
    """A table that is derived from the log differs from it; `replay` makes the tables again."""

    def __init__(self, differences: tuple[str, ...]) -> None:
        first, *others = differences
        more = f" and {len(others)} more" if others else ""
        super().__init__(
            f"the tables differ from the log: {first}{more}; 'replay' makes them again"
        )
        self.differences = differences
        """A sentence for each difference."""


class DigestMismatchError(RegistryError, ValueError):
    """The bytes are others than the caller says; nothing refers to them."""

    def __init__(self, algorithm: str, expected: str, actual: str) -> None:
        super().__init__(
            f"the {algorithm} digest of the bytes is {actual}, the caller says {expected}"
        )
        self.algorithm = algorithm
        """The hash function, or ``size``."""
        self.expected = expected
        """The caller's value."""
        self.actual = actual
        """The value of the bytes that came."""


class UnknownEventTypeError(RegistryError):
    """An event has a type or a version that this version of the code does not know.

    The log is not damaged: something newer wrote it, and only that can read it.
    """

    def __init__(self, event_type: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"unknown event type {event_type!r:.100}; this version knows {', '.join(known)}"
        )
        self.event_type = event_type
        """What the event says it is."""


class DatabaseUnavailableError(RegistryError):
    """The database cannot do it: full, locked, read-only, gone; nothing was stored."""


class CommitUncertainError(DatabaseUnavailableError):
    """The connection was lost during the commit, and the database cannot be asked what became of it.

    Look before you repeat the call: it may have taken place.
    """


class DatabaseReplacedError(DatabaseUnavailableError):
    """The database's file was moved, removed or replaced while it was open.

    A write would go where nobody reads it again; open the registry anew.
    """


class ForeignDatabaseError(RegistryError):
    """The file belongs to another application; it is left as it is."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} is not a registry's database: {reason}")
        self.path = path
        """The file."""
        self.reason = reason
        """How that shows."""


class NotInitialisedError(RegistryError):
    """The database has no tables of a registry: nobody made them yet."""

    def __init__(self) -> None:
        super().__init__(
            "the database has no tables of a registry; "
            "'await create_schema(engine)' or 'artifact-registry init' makes them"
        )


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


class ClockNotConfirmedError(RetentionError):
    """The date has passed by a clock that ran ahead of the log, and nobody has confirmed it."""

    def __init__(self, package_id: UUID, now: datetime, confirmed: datetime) -> None:
        super().__init__(
            package_id,
            f"is past its date only if it is {now.isoformat()} now, while the log has seen no more "
            f"than {confirmed.isoformat()} go by day by day; if the clock is right, confirm it with "
            "confirm_clock or 'artifact-registry retention confirm-clock'",
        )
        self.now = now
        """The time by the registry's clock, aware UTC."""
        self.confirmed = confirmed
        """The time that has passed by the log, in steps of at most a day."""


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
        """The file or folder at fault, relative to the imported folder."""
        self.reason = reason
        """Why."""


class ContentNotFoundError(RegistryError):
    """A backend does not have some content, or has it no longer."""

    def __init__(self, address: ContentAddress, backend_id: str) -> None:
        super().__init__(f"content {address} is not in the backend {backend_id!r}")
        self.address = address
        """The requested address."""
        self.backend_id = backend_id
        """Where it is not."""


class ContentDamagedError(RegistryError):
    """What a backend has under an address are other bytes."""

    def __init__(self, address: ContentAddress, backend_id: str, actual: ContentAddress) -> None:
        super().__init__(f"content {address} of the backend {backend_id!r} has changed to {actual}")
        self.address = address
        """The requested address."""
        self.backend_id = backend_id
        """Where it has changed."""
        self.actual = actual
        """The address of the bytes that are there now."""


class StorageUnavailableError(RegistryError):
    """A backend cannot do it: full, read-only, gone, or not permitted.

    A write that ends with this has stored nothing, and earlier content is as it was.
    """

    def __init__(self, backend_id: str, reason: str) -> None:
        super().__init__(f"the backend {backend_id!r} is unavailable: {reason}")
        self.backend_id = backend_id
        """Which backend."""
        self.reason = reason
        """What the storage said; a path of its own, never a secret."""


class StorageFullError(StorageUnavailableError):
    """There is no room for it, or a quota is used up; nothing of it is stored."""


class RegistryNotFoundError(RegistryError):
    """There is no registry at a place: nothing was made there yet."""

    def __init__(self, place: str) -> None:
        super().__init__(f"there is no registry at {place}; 'artifact-registry init' makes one")
        self.place = place
        """Where it was looked for; without secrets."""


class SchemaRevisionError(RegistryError):
    """The tables of a database are those of another version of this package."""

    def __init__(self, actual: str | None, expected: str, advice: str) -> None:
        found = "no known revision" if actual is None else f"revision {actual}"
        super().__init__(f"the database has {found}, this version needs {expected}: {advice}")
        self.actual = actual
        """The revision of the tables, ``None`` when nothing says."""
        self.expected = expected
        """The revision that this version of the package works with."""

"""The history of one package: a fold of its events that refuses what must not happen.

Rule 1: whatever is decided about a package follows from this fold, never from a row of a table.
Rule 2: the fold is strict: a second creation, a file after the end, a manifest that is not the sum
of the events before it, a deletion under hold or before its date is an `IllegalHistoryError` that
names the event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final
from uuid import UUID

from starfish_artifact_registry.errors import IllegalHistoryError, ManifestError
from starfish_artifact_registry.model import _manifest as manifests
from starfish_artifact_registry.model._catalogue import (
    ClockConfirmed,
    ContentRepaired,
    EventPayload,
    FileIngested,
    FixityChecked,
    PackageCreated,
    PackageDeleted,
    PackageExpired,
    PackageFinalized,
    PackageImported,
    RetentionHeld,
    RetentionReleased,
)
from starfish_artifact_registry.model._event_codec import EncodedPayload, Event, decode_payload
from starfish_artifact_registry.model._manifest import (
    Manifest,
    ManifestFile,
    ManifestPackage,
    StorageReceipt,
)
from starfish_artifact_registry.model._moment import from_ms, to_ms
from starfish_artifact_registry.model._plain_values import to_plain
from starfish_protocol import cbor

_FINALIZED: Final = PackageFinalized.event_type
_File = tuple[bytes, int, str, int]
"""Payload, time in milliseconds, actor and sequence: nothing that the collector must follow."""
_SHARED: Final = (
    *("relative_path", "media_type", "size", "content_address", "sha256", "storage_location_id"),
    "facts",
)

__all__ = ("Fact", "HistoryFile", "PackageHistory", "PlacedHold", "retention_end")


@dataclass(frozen=True, slots=True)
class HistoryFile:
    """One file, as its event says."""

    ingested: FileIngested
    """The event's payload."""
    at: datetime
    """When, aware UTC."""
    by: str
    """The actor."""
    sequence: int
    """The event."""


@dataclass(frozen=True, slots=True)
class PlacedHold:
    """One hold that is in force."""

    hold_id: UUID
    """Its id."""
    reason: str
    """Why it was placed."""
    actor: str
    """Its holder."""
    sequence: int
    """The event that placed it."""


@dataclass(frozen=True, slots=True)
class Fact:
    """An event of the package: from the log, or from a proof."""

    sequence: int
    """Its place in the log."""
    payload: EventPayload | EncodedPayload
    """What it says; a manifest stays encoded."""
    data: bytes
    """The payload's bytes."""
    digest: bytes
    """BLAKE3 of those."""
    actor: str
    """Who did it."""
    at: datetime
    """When, aware UTC."""


@dataclass(slots=True)
class PackageHistory:
    """What the events of a package come to, up to the last one that was applied."""

    package_id: UUID
    """The package."""
    status: str | None = None
    """``created``, ``finalized``, ``expired``, ``deleted``; ``None`` before the first event."""
    created: PackageCreated | None = None
    created_at: datetime | None = None
    created_by: str = ""
    holds: dict[UUID, PlacedHold] = field(default_factory=dict[UUID, PlacedHold])
    """Those in force, oldest first."""
    retain_until: datetime | None = None
    """From then on it may go; ``None`` is for ever."""
    manifest_sequence: int | None = None
    manifest_digest: bytes | None = None
    finalized_at: datetime | None = None
    finalized_by: str | None = None
    imported_at: datetime | None = None
    imported_by: str | None = None
    expired_at: datetime | None = None
    deleted_at: datetime | None = None
    last_sequence: int = 0
    """The last event that was applied."""
    _files: dict[str, _File] = field(default_factory=dict[str, "_File"])
    _file_ids: set[int] = field(default_factory=set[int])
    _awaits_import: bool = False

    def copy(self) -> PackageHistory:
        """A history that goes its own way from here."""
        return replace(
            self,
            _files=dict(self._files),
            holds=dict(self.holds),
            _file_ids=set(self._file_ids),
        )

    def apply(self, event: Event) -> None:
        """Let one event take place.

        Raises:
            IllegalHistoryError: it must not follow those before it.
            LogDamagedError: its payload is not of its type.
            UnknownEventTypeError: a newer version wrote it.
        """
        self.add(
            Fact(
                event.sequence,
                event.undecoded() if event.event_type == _FINALIZED else event.decoded(),
                event.payload,
                event.payload_digest,
                event.actor,
                event.created_at,
            )
        )

    def add(self, fact: Fact) -> None:
        """The same with the parts of an event.

        Raises:
            IllegalHistoryError: it must not follow those before it.
        """
        kind = type(fact.payload)
        if fact.sequence <= self.last_sequence:
            raise self._illegal(fact, f"it stands before event {self.last_sequence}")
        if self._awaits_import and kind is not PackageImported:
            raise self._illegal(
                fact, "the manifest before it names other places of storage and no import follows"
            )
        if (self.status is None) != (kind is PackageCreated):
            reason = "the package was created before" if self.status else "nothing created it"
            raise self._illegal(fact, reason)
        self._FOLLOW[kind](self, fact, fact.payload)
        self.last_sequence = fact.sequence

    def end(self) -> None:
        """Say that no further event is there.

        Raises:
            IllegalHistoryError: the last one needed another one after it.
        """
        if self._awaits_import:
            raise self._illegal(
                self.last_sequence,
                "its manifest names other places of storage than the events, and no import follows",
            )

    def each_file(self) -> Iterator[tuple[str, HistoryFile]]:
        """The files with their paths, in the order of the log."""
        for path, (data, at_ms, actor, sequence) in self._files.items():
            payload = decode_payload(FileIngested.event_type, data)
            assert isinstance(payload, FileIngested)  # noqa: S101  for the type checker
            yield path, HistoryFile(payload, from_ms(at_ms), actor, sequence)

    @property
    def file_count(self) -> int:
        """How many files it has."""
        return len(self._files)

    def manifest_bytes(self, *, finalized_at: datetime, finalized_by: str) -> bytes:
        """The manifest that these events come to, encoded.

        Few objects are made on the way, and none for the whole: a package of 100,000 files would
        have the collector of the interpreter stop everything else.

        Raises:
            IllegalHistoryError: nothing created the package.
            ManifestError: it is longer than `MAX_MANIFEST_BYTES` bytes.
        """
        created = self.created
        if created is None or self.created_at is None:
            raise self._illegal(self.last_sequence, "nothing created it")
        package = ManifestPackage(
            id=str(self.package_id),
            name=created.name,
            producer=created.producer,
            subject=created.subject,
            retention_class=created.retention_class,
            metadata=created.metadata,
            created_at=self.created_at,
            created_by=self.created_by,
            finalized_at=finalized_at,
            finalized_by=finalized_by,
        )
        files: list[tuple[bytes, bytes]] = []
        receipts: dict[str, bytes] = {}
        for path, (data, at_ms, actor, _) in self._files.items():
            fields = cbor.decode(data)
            location = fields["storage_location_id"]
            if location not in receipts:
                receipts[location] = cbor.encode(
                    {name: fields[name] for name in StorageReceipt.__dataclass_fields__}
                )
            file = {name: fields[name] for name in _SHARED if name in fields}
            file |= {"id": fields["file_id"], "ingested_at": at_ms, "ingested_by": actor}
            files.append((path.encode(), cbor.encode(file)))
        files.sort()
        return manifests.assemble(
            cbor.encode(to_plain(package)),
            [data for _, data in files],
            [receipts[location] for location in sorted(receipts)],
        )

    def _create(self, fact: Fact, payload: PackageCreated) -> None:
        self.status, self.created = "created", payload
        self.created_at, self.created_by = fact.at, fact.actor
        self.retain_until = retention_end(fact.at, payload.retention_days)

    def _ingest(self, fact: Fact, payload: FileIngested) -> None:
        if self.status != "created":
            raise self._illegal(fact, f"it adds a file to a package that is {self.status}")
        if payload.relative_path in self._files:
            raise self._illegal(fact, f"there is a file at {payload.relative_path!r:.300} already")
        if payload.file_id.int in self._file_ids:
            raise self._illegal(fact, f"file {payload.file_id} is there already")
        self._file_ids.add(payload.file_id.int)
        self._files[payload.relative_path] = fact.data, to_ms(fact.at), fact.actor, fact.sequence

    def _finalize(self, fact: Fact, _payload: EncodedPayload) -> None:
        if self.status != "created":
            raise self._illegal(fact, f"it finalizes a package that is {self.status}")
        expected = self.manifest_bytes(finalized_at=fact.at, finalized_by=fact.actor)
        if expected != fact.data:
            try:
                found = manifests.decode(fact.data)
            except ManifestError as error:
                raise self._illegal(fact, str(error)) from error
            difference = _difference(manifests.decode(expected), found)
            if difference is not None:
                reason = f"its manifest is not the sum of the events: {difference}"
                raise self._illegal(fact, reason)
            self._awaits_import = True
        self.status = "finalized"
        self.manifest_sequence, self.manifest_digest = fact.sequence, fact.digest
        self.finalized_at, self.finalized_by = fact.at, fact.actor
        self.retain_until = retention_end(fact.at, self._retention_days())

    def _import(self, fact: Fact, _payload: PackageImported) -> None:
        if self.status != "finalized" or self.imported_at is not None:
            raise self._illegal(fact, f"it imports a package that is {self.status}")
        self._awaits_import = False
        self.imported_at, self.imported_by = fact.at, fact.actor
        later = retention_end(fact.at, self._retention_days())
        if self.retain_until is not None:
            self.retain_until = None if later is None else max(self.retain_until, later)

    def _hold(self, fact: Fact, payload: RetentionHeld) -> None:
        self._must_not_be_deleted(fact)
        if payload.hold_id in self.holds:
            raise self._illegal(fact, f"hold {payload.hold_id} is in force already")
        hold = PlacedHold(payload.hold_id, payload.reason, fact.actor, fact.sequence)
        self.holds[payload.hold_id] = hold

    def _release(self, fact: Fact, payload: RetentionReleased) -> None:
        if self.holds.pop(payload.hold_id, None) is None:
            raise self._illegal(fact, f"hold {payload.hold_id} was not in force")

    def _expire(self, fact: Fact, _payload: PackageExpired) -> None:
        if self.status not in {"created", "finalized"}:
            raise self._illegal(fact, f"it expires a package that is {self.status}")
        self._must_be_due(fact, "expired")
        self.status, self.expired_at = "expired", fact.at

    def _delete(self, fact: Fact, _payload: PackageDeleted) -> None:
        self._must_not_be_deleted(fact)
        self._must_be_due(fact, "deleted")
        self.status, self.deleted_at = "deleted", fact.at

    def _note(self, fact: Fact, _payload: FixityChecked | ContentRepaired) -> None:
        self._must_not_be_deleted(fact)

    def _refuse_clock(self, fact: Fact, _payload: ClockConfirmed) -> None:
        raise self._illegal(fact, "it is about the clock, which is of no package")

    def _must_be_due(self, fact: Fact, what: str) -> None:
        if self.holds:
            holds = ", ".join(map(str, self.holds))
            raise self._illegal(fact, f"it was {what} while under hold {holds}")
        if self.retain_until is None or fact.at < self.retain_until:
            until = "for ever" if self.retain_until is None else self.retain_until.isoformat()
            raise self._illegal(fact, f"it was {what} although retained until {until}")

    def _must_not_be_deleted(self, fact: Fact) -> None:
        if self.status == "deleted":
            raise self._illegal(fact, "the package is deleted")

    def _retention_days(self) -> int | None:
        return None if self.created is None else self.created.retention_days

    def _illegal(self, at: Fact | int, reason: str) -> IllegalHistoryError:
        sequence = at if isinstance(at, int) else at.sequence
        return IllegalHistoryError(sequence, self.package_id, reason)

    _FOLLOW: ClassVar[dict[type[Any], Callable[[PackageHistory, Fact, Any], None]]] = {
        PackageCreated: _create,
        FileIngested: _ingest,
        EncodedPayload: _finalize,
        PackageImported: _import,
        RetentionHeld: _hold,
        RetentionReleased: _release,
        PackageExpired: _expire,
        PackageDeleted: _delete,
        FixityChecked: _note,
        ContentRepaired: _note,
        ClockConfirmed: _refuse_clock,
    }


def retention_end(start: datetime, days: int | None) -> datetime | None:
    """When a retention of so many days ends; ``None`` is never."""
    try:
        return None if days is None else start + timedelta(days=days)
    except OverflowError:
        return None  # beyond the year 9999


def _difference(expected: Manifest, found: Manifest) -> str | None:
    """The first difference between two manifests; places of storage do not count."""
    one: dict[str, Any] = to_plain(expected.package)
    other: dict[str, Any] = to_plain(found.package)
    for name, value in one.items():
        if cbor.encode(other[name]) != cbor.encode(value):
            return f"package.{name} is {other[name]!r:.100}, the events say {value!r:.100}"
    files = {file.relative_path: file for file in found.files}
    for file in expected.files:
        there = files.pop(file.relative_path, None)
        if there is None:
            return f"the file at {file.relative_path!r:.300} is missing"
        for name in ManifestFile.__dataclass_fields__:
            if name != "storage_location_id" and getattr(there, name) != getattr(file, name):
                return (
                    f"{name} of {file.relative_path!r:.300} is {getattr(there, name)!s:.100}, "
                    f"the events say {getattr(file, name)!s:.100}"
                )
    if files:
        return f"no event has the file at {min(files)!r:.300}"
    return None

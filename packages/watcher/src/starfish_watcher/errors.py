"""Errors of the watcher.

* WatcherError
  - StoreClosed                 reason; also a `starfish_protocol.events.SubscriptionClosed`
    - ReaderClosed              reader
  - StoreUnavailableError       location, reason
    - StoreFullError
  - StoreMovedError             location, reason
  - LimitExceededError          location, reason
  - AppendUncertainError        location, reason
  - StoreDamagedError           location, reason
    - ChainBrokenError          entity, sequence
    - StoreFormatError          found, known
  - SequenceConflictError       entity, expected, actual
  - IdempotencyConflictError    key, sequence
  - UnknownGenerationError      entity, generation, actual
  - ImportRefusedError          location, line, reason
  - EventTypeError              name, version, reason, item
  - PayloadErasedError          reason
  - RunnerError                 runner, reason
    - ViewFailed                view, sequence, event_id, kind, entity
    - ViewMismatchError
    - SourcePositionLost
  - ProjectionFailed            projection, entity, sequence, event_id, kind
  - SubscriptionPruned          capacity; also a `starfish_protocol.events.SubscriptionPruned`
  - CheckpointError             location
    - CheckpointDamagedError
    - CheckpointMismatchError   expected, actual
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Self
from uuid import UUID

from starfish_protocol import events
from starfish_protocol.errors import StarfishError

__all__ = (
    "AppendUncertainError",
    "ChainBrokenError",
    "CheckpointDamagedError",
    "CheckpointError",
    "CheckpointMismatchError",
    "EventTypeError",
    "IdempotencyConflictError",
    "ImportRefusedError",
    "LimitExceededError",
    "PayloadErasedError",
    "ProjectionFailed",
    "ReaderClosed",
    "RunnerError",
    "SequenceConflictError",
    "SourcePositionLost",
    "StoreClosed",
    "StoreDamagedError",
    "StoreFormatError",
    "StoreFullError",
    "StoreMovedError",
    "StoreUnavailableError",
    "SubscriptionPruned",
    "UnknownGenerationError",
    "ViewFailed",
    "ViewMismatchError",
    "WatcherError",
)


class WatcherError(StarfishError):
    """Base of every error that this package raises on purpose."""

    def own_copy(self) -> Self:
        """The same error for one of several callers, so that their tracebacks do not mix."""
        copy = self.__class__.__new__(self.__class__)
        copy.args = self.args
        copy.__dict__.update(self.__dict__)
        copy.__cause__ = self.__cause__
        return copy


class StoreClosed(WatcherError, events.SubscriptionClosed):  # noqa: N818 - a state that readers expect, not a fault
    """The store takes and gives nothing any more; every blocked reader wakes with this.

    When the store did not close on request, ``__cause__`` is the error that ended it. An append
    that gets this may have been written all the same: an idempotency key makes repeating it safe.
    """

    def __init__(self, reason: str = "it was closed") -> None:
        super().__init__(f"the event store is closed: {reason}")
        self.reason = reason
        """Why it is closed."""

    @classmethod
    def because_of(cls, error: BaseException) -> StoreClosed:
        """One reader's own copy of the reason why nothing more comes, with the cause kept."""
        if isinstance(error, StoreClosed):
            copy = cls(error.reason)
            copy.__cause__ = error.__cause__
        else:
            copy = cls(f"{type(error).__name__}: {error}")
            copy.__cause__ = error
        return copy


class ReaderClosed(StoreClosed):
    """This watcher, subscription or cursor was closed; its store goes on."""

    def __init__(self, reader: str = "reader") -> None:
        WatcherError.__init__(self, f"the {reader} was closed")
        self.reason = "it was closed"
        self.reader = reader
        """``watcher``, ``subscription`` or ``cursor``."""


class StoreUnavailableError(WatcherError):
    """The storage behind a store does not answer: locked, gone, or not permitted."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"event store {location} is unavailable: {reason}")
        self.location = location
        """Which store: a path or a name, never a secret."""
        self.reason = reason
        """What the storage said."""


class StoreFullError(StoreUnavailableError):
    """The storage has no room; nothing of the append was written, and reading still works."""


class StoreMovedError(WatcherError):
    """The file of an open store was moved, removed or replaced; nothing is acknowledged any more."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"event store {location} is not in its place any more: {reason}")
        self.location = location
        """Where the file was."""
        self.reason = reason
        """Which file is there now."""


class LimitExceededError(WatcherError):
    """The append is more than this storage can ever take; nothing of it was written.

    Trying again does not help: make it smaller, or change the limit of the storage.
    """

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"event store {location} refuses the append: {reason}")
        self.location = location
        """Which store: a path or a name, never a secret."""
        self.reason = reason
        """Which limit, and what the append has."""


class AppendUncertainError(WatcherError):
    """The server fell silent during a commit and did not come back to say whether it was done.

    Repeating the append with an idempotency key is safe; without one, read first.
    """

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(
            f"event store {location} did not say whether the append was committed: {reason}; "
            "an idempotency key makes repeating it safe"
        )
        self.location = location
        """Which store: a path or a name, never a secret."""
        self.reason = reason
        """What the driver said."""


class StoreDamagedError(WatcherError):
    """The stored bytes are not those that were written; nothing is served from them."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"event store {location} is damaged: {reason}")
        self.location = location
        """Which store: a path or a name, never a secret."""
        self.reason = reason
        """What does not fit."""


class StoreFormatError(StoreDamagedError):
    """A later version of this package wrote the store; nothing was touched."""

    def __init__(self, location: str, found: int, known: int) -> None:
        WatcherError.__init__(
            self,
            f"event store {location} has the format {found}; this version reads formats 1 to"
            f" {known}: open it with a later version of starfish-watcher",
        )
        self.location = location
        self.reason = f"its format is {found}, this version reads 1 to {known}"
        self.found = found
        """The format of the store."""
        self.known = known
        """The newest format that this version reads."""


class ChainBrokenError(StoreDamagedError):
    """An event's hash does not follow from its content and the event before it."""

    def __init__(self, location: str, entity: str, sequence: int, reason: str) -> None:
        super().__init__(location, f"entity {entity!r}, sequence {sequence}: {reason}")
        self.entity = entity
        """The entity whose chain is broken."""
        self.sequence = sequence
        """The first event that does not fit; 0 when one is missing and nobody knows which."""


class SequenceConflictError(WatcherError):
    """The entity is not where the append expected it; nothing was written."""

    def __init__(self, entity: str, expected: str, actual: str, item: int | None = None) -> None:
        at = "" if item is None else f"item {item} of the batch: "
        super().__init__(f"{at}entity {entity!r} is at {actual}, the append expected {expected}")
        self.entity = entity
        """The entity."""
        self.expected = expected
        """What the append expected: ``no event`` or ``clock <n>``."""
        self.actual = actual
        """Where the entity is, in the same words."""
        self.item = item
        """Index in the batch; ``None`` for a single append."""


class IdempotencyConflictError(WatcherError):
    """The idempotency key was used before, for another content; nothing was written."""

    def __init__(self, key: str, sequence: int, item: int | None = None) -> None:
        super().__init__(
            f"idempotency key {key[:200]!r} belongs to {f'event {sequence}' if item is None else f'item {item} of the same batch'}, which has another "
            "coordinate, kind or payload; use a new key for a new event"
        )
        self.key = key
        """The key."""
        self.sequence = sequence
        """The event that it belongs to; 0 when that is an earlier item of the same batch."""
        self.item = item
        """Index of that item."""


class ImportRefusedError(WatcherError):
    """An export cannot be made into a store; nothing is left of the attempt."""

    def __init__(self, location: str, line: int, reason: str) -> None:
        at = f", line {line}" if line else ""
        super().__init__(f"import into {location}{at}: {reason}")
        self.location = location
        """Path of the new store."""
        self.line = line
        """Line of the export, from 1; 0 when it is about the whole."""
        self.reason = reason
        """Which rule it breaks."""


class EventTypeError(WatcherError):
    """A payload does not fit its event type: when it is appended, or when it is read."""

    def __init__(self, name: str, version: int, reason: str, item: int | None = None) -> None:
        at = "" if item is None else f"item {item} of the batch: "
        super().__init__(f"{at}event type {name!r}, version {version}: {reason}")
        self.name = name
        """Name of the event type."""
        self.version = version
        """Version of the payload."""
        self.reason = reason
        """What does not fit, or which step to the newest version is missing."""
        self.item = item
        """Index in the batch that was to be appended; ``None`` elsewhere."""


class PayloadErasedError(WatcherError):
    """The payload is sealed, and its key was destroyed or is not at hand."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the payload cannot be read: {reason}")
        self.reason = reason
        """Which key is missing."""


class UnknownGenerationError(WatcherError):
    """A token is of a generation that the entity never had: of another store, or of a lost history.

    Read the state anew and go on from its generation.
    """

    def __init__(self, entity: str, generation: int, actual: int) -> None:
        super().__init__(
            f"entity {entity!r} never had generation {generation}, it is at {actual}: the token is"
            " of another store, or the store is an older copy; read the state anew"
        )
        self.entity = entity
        """The entity."""
        self.generation = generation
        """The generation that was given."""
        self.actual = actual
        """The entity's generation."""


class ProjectionFailed(WatcherError):  # noqa: N818 - the projection's failure, kept as the cause
    """A projection raised while it folded; ``__cause__`` is what it raised.

    The state that is kept is as before, so that the next attempt folds the same events.
    """

    def __init__(
        self,
        projection: str,
        entity: str,
        reason: str,
        *,
        sequence: int | None = None,
        event_id: UUID | None = None,
        kind: Hashable = None,
    ) -> None:
        at = "" if sequence is None else f" at event {sequence} ({kind}, {event_id})"
        super().__init__(f"projection {projection} of entity {entity!r} failed{at}: {reason}")
        self.projection = projection
        """Name of the projection."""
        self.entity = entity
        """The entity it was folding."""
        self.sequence = sequence
        """Sequence of the event that could not be folded; ``None`` when it was not an event."""
        self.event_id = event_id
        """Its id, where its source has ids."""
        self.kind = kind
        """Its kind."""


class SubscriptionPruned(WatcherError, events.SubscriptionPruned):  # noqa: N818 - as its base
    """A subscriber was full when an event came, so it was dropped and misses that event."""


class CheckpointError(WatcherError):
    """A stored position cannot be used or saved; nothing was read, and the position is as before."""

    def __init__(self, location: str, reason: str) -> None:
        super().__init__(f"checkpoint {location}: {reason}")
        self.location = location
        """Where the checkpoint is stored."""


class CheckpointDamagedError(CheckpointError):
    """The file is not a whole checkpoint; start from one that you trust or delete it."""


class CheckpointMismatchError(CheckpointError):
    """The checkpoint belongs to something else: another store, region or kind of reader."""

    def __init__(self, location: str, expected: str, actual: str) -> None:
        super().__init__(location, f"belongs to {actual}, not to {expected}")
        self.expected = expected
        """What the reader is."""
        self.actual = actual
        """What the checkpoint was saved for."""


class RunnerError(WatcherError):
    """A runner refuses a call, or cannot go on; the tables are at the end of a batch."""

    def __init__(self, runner: str, reason: str) -> None:
        super().__init__(f"runner {runner!r}: {reason}")
        self.runner = runner
        """Name of the runner."""
        self.reason = reason
        """Why."""


class ViewMismatchError(RunnerError):
    """The sink keeps other views, versions or partitions under the runner's name.

    Take another name, or `Runner.reset` with the views that made the tables.
    """


class SourcePositionLost(RunnerError):  # noqa: N818 - as `PositionLost` of the protocol, its cause
    """The source does not have the history that the tables follow from: it was put back, or replaced.

    Nothing is skipped or repeated: `Runner.reset` makes the tables anew.
    """


class ViewFailed(RunnerError):  # noqa: N818 - the view's failure, kept as the cause
    """A view could not take an event; ``__cause__`` is what it raised.

    The events before it have their effects, this one has none.
    """

    def __init__(self, runner: str, view: str, error: BaseException, event: events.Event) -> None:
        self.view = view
        """Name of the view."""
        self.sequence = event.sequence
        """Sequence of the event."""
        self.event_id: UUID | None = getattr(event, "event_id", None)
        """Its id, where its source has ids."""
        self.kind = event.kind
        """Its kind."""
        self.entity = event.entity
        """Its entity."""
        shown = "" if self.event_id is None else f", {self.event_id}"
        super().__init__(
            runner,
            f"view {view!r} failed at event {self.sequence} ({self.kind}{shown}) of entity"
            f" {self.entity!r}: {type(error).__name__}: {error}",
        )

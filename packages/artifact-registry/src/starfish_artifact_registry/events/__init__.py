"""The events of the log, the tables that follow from them, and how those are made again."""

from starfish_artifact_registry.model._catalogue import (
    EVENT_TYPES,
    NO_PACKAGE,
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
from starfish_artifact_registry.model._event_codec import Event, NewEvent
from starfish_artifact_registry.views._replay import replay
from starfish_artifact_registry.views._writer import RegistryViewWriter, ViewWriter

__all__ = (
    "EVENT_TYPES",
    "NO_PACKAGE",
    "ClockConfirmed",
    "ContentRepaired",
    "Event",
    "EventPayload",
    "FileIngested",
    "FixityChecked",
    "NewEvent",
    "PackageCreated",
    "PackageDeleted",
    "PackageExpired",
    "PackageFinalized",
    "PackageImported",
    "RegistryViewWriter",
    "RetentionHeld",
    "RetentionReleased",
    "ViewWriter",
    "replay",
)

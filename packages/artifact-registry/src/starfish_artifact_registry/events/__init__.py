"""The append-only log and what follows from it."""

from starfish_artifact_registry.events.catalogue import EVENT_TYPES, EventPayload
from starfish_artifact_registry.events.codec import Event, NewEvent
from starfish_artifact_registry.events.replay import replay
from starfish_artifact_registry.events.views import RegistryViewWriter, ViewWriter

__all__ = (
    "EVENT_TYPES",
    "Event",
    "EventPayload",
    "NewEvent",
    "RegistryViewWriter",
    "ViewWriter",
    "replay",
)

"""An event of the log as JSON, the same over HTTP and on the command line."""

from __future__ import annotations

from typing import Any

from starfish_artifact_registry.model._catalogue import PackageFinalized
from starfish_artifact_registry.model._event_codec import Event
from starfish_artifact_registry.model._json_form import json_form
from starfish_protocol import cbor
from starfish_protocol.address import ContentAddress

__all__ = ("event_form",)


def event_form(event: Event) -> dict[str, Any]:
    """The envelope, and the payload as an object.

    The payload of a finalized package is its manifest, which may be long and is had by itself: its
    address, ``payload_digest``, stands for it.
    """
    is_manifest = event.event_type == PackageFinalized.event_type
    return {
        "sequence": event.sequence,
        "event_id": str(event.event_id),
        "package_id": str(event.package_id),
        "event_type": event.event_type,
        "actor": event.actor,
        "created_at": json_form(event.created_at),
        "payload": None if is_manifest else json_form(cbor.decode(event.payload)),
        "payload_digest": str(ContentAddress("blake3", event.payload_digest)),
        "prev_digest": event.prev_digest.hex(),
        "event_digest": event.event_digest.hex(),
    }

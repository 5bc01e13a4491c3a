"""Fetch, push and clone over HTTP; needs the extra ``client``."""

from starfish_mpack_wire.client._retries import RetryPolicy
from starfish_mpack_wire.client.answers import RemoteRefs
from starfish_mpack_wire.client.progress import OnProgress, Progress, Stage
from starfish_mpack_wire.client.wire_client import FetchResult, PushResult, WireClient

__all__ = (
    "FetchResult",
    "OnProgress",
    "Progress",
    "PushResult",
    "RemoteRefs",
    "RetryPolicy",
    "Stage",
    "WireClient",
)

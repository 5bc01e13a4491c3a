"""Fetch, push and clone over HTTP; needs the extra ``client``."""

try:
    from starfish_mpack_wire.client._answers import RemoteRefs
    from starfish_mpack_wire.client._progress import OnProgress, Progress, Stage
    from starfish_mpack_wire.client._retries import RetryPolicy
    from starfish_mpack_wire.client._wire_client import FetchResult, PushResult, WireClient
except ImportError as error:
    if error.name is not None and error.name.startswith("starfish"):
        raise
    message = 'starfish_mpack_wire.client needs the extra client: pip install --find-links dist "starfish-mpack-wire[client]"'
    raise ImportError(message) from error

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

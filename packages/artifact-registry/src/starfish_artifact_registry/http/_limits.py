"""Every cap of the HTTP API, its default and why."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ("HttpLimits",)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What one request may cost the server.

    Examples:
        >>> HttpLimits(max_file_bytes=1_000_000).max_event_streams
        64
    """

    max_file_bytes: int = 16 * 1024**3
    """Bytes of one uploaded file; one more is answered 413 and nothing is stored."""
    max_json_bytes: int = 256 * 1024
    """Bytes of the body of any other request: it is read whole."""
    body_interval_s: float = 10.0
    """How long a client may take for ``min_body_bytes`` of a body, or for the rest of it."""
    min_body_bytes: int = 16 * 1024
    """What has to arrive within ``body_interval_s``: a client that drips is cut off too."""
    linger_s: float = 2.0
    """How long what a client still sends is thrown away after an answer that did not wait for the
    end of its body: so long it has to read the answer before the connection closes."""
    unread_timeout_s: float = 60.0
    """How long an answer may wait for its reader in full buffers before the connection is dropped."""
    heartbeat_s: float = 15.0
    """Silence on an event stream after which a comment is sent, so that proxies keep it open."""
    max_event_streams: int = 64
    """Event streams of one process at a time; one more is answered 503."""
    event_stream_s: float = 3600.0
    """Life of an event stream; clients resume where they were, and revoked tokens lose their hold."""

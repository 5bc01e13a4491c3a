"""Sends entries ``{"path", "body", "baseHash"}`` to a Starfish server; needs the extra ``http``.

A push is a compare-and-swap on the hash of the document. When the server has another document, the
two edits are merged and the result is pushed against the new hash. An entry counts as sent when the
answer proves that the server has it. A push whose answer was lost is recognised when it is made
again: the server then has exactly the document that is to be pushed.
"""

from __future__ import annotations

try:
    from starfish_outbox._push.merge import Merged, merge_three_ways
    from starfish_outbox._push.sender import OnConflict, PushSender
except ImportError as error:
    if (error.name or "").partition(".")[0] not in {"httpx", "starfish_protocol"}:
        raise
    message = (
        "starfish_outbox.http needs the extra http:"
        ' pip install --find-links dist "starfish-outbox[http]"'
    )
    raise ImportError(message) from error

__all__ = ("Merged", "OnConflict", "PushSender", "merge_three_ways")

"""What clients get of a list that is stored in pieces.

Rule: a document of anybody else comes back as it is, whatever it looks like.
"""

from __future__ import annotations

import json
import re

from starfish_projection._list_storage import ListStorage
from starfish_projection._segments import INDEX_HEAD
from starfish_protocol.clock import Clock
from starfish_protocol.plugins import InterceptPullResult, PullHookContext

__all__ = ("ListReader",)

_HEAD = INDEX_HEAD.encode()
_HASH = re.compile(r"[0-9a-f]{64}")
_PROCEED = InterceptPullResult("proceed")


class ListReader:
    """The hooks of the plugin that have to do with pulls.

    Args:
        lists: where they are.
        clock: tells the time of an answer.
    """

    def __init__(self, lists: ListStorage, clock: Clock) -> None:
        self._lists = lists
        self._clock = clock

    async def read_stored(self, key: str, body: bytes) -> bytes:
        """Put a list in pieces together."""
        if not body.startswith(_HEAD):
            return body
        return (await self._lists.whole(key, body.decode())).encode()

    async def intercept_pull(self, context: PullHookContext) -> InterceptPullResult:
        """Answer ``?since=<hash>`` with what changed, where the list is in pieces and that is known."""
        since = None if context.query is None else context.query.get("since")
        if since is None or context.document_key is None or _HASH.fullmatch(since) is None:
            return _PROCEED
        folder = "" if context.namespace is None else f"{context.namespace}/"
        changes = await self._lists.changes(folder + context.document_key, since)
        if changes is None:
            return _PROCEED
        answer = {"since": since, **changes, "timestamp": self._clock.now_ms()}
        return InterceptPullResult("respond", 200, json.dumps(answer, ensure_ascii=False).encode())

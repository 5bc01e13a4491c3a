"""Sends entries ``{"path", "body", "baseHash"}`` to a Starfish server; needs the extra ``http``.

A push is a compare-and-swap on the hash of the document. When the server has another document, the
two are merged and the result is pushed against the new hash. A push whose answer was lost is
recognised when it is made again: the server then has exactly what is to be pushed.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, cast

try:
    import httpx

    from starfish_protocol.constants import (
        BASE_HASH_FIELD,
        CURRENT_HASH_FIELD,
        DATA_FIELD,
        ERROR_FIELD,
        HASH_FIELD,
        HEADER_CONTENT_TYPE,
        HEADER_RETRY_AFTER,
        PULL_PATH_PREFIX,
        PUSH_PATH_PREFIX,
        TIMESTAMP_FIELD,
    )
    from starfish_protocol.hash import compute_hash
    from starfish_protocol.merge import deep_merge
    from starfish_protocol.types import PullResult
except ImportError as error:
    message = 'starfish_outbox.http needs the extra http: pip install "starfish-outbox[http]"'
    raise ImportError(message) from error

from starfish_outbox._clock import system_now_ms
from starfish_outbox._entry import OutboxEntry
from starfish_outbox.errors import PermanentSendError, RetryAfterError, SendError

__all__ = ("OnConflict", "PushSender")

Document = dict[str, Any]
OnConflict = Callable[[OutboxEntry, PullResult], Awaitable[Document | None] | Document | None]
"""Decides what to push instead, given the entry and the server's document; ``None`` to push
nothing, because the server's document is right."""

PASSING_STATUSES = frozenset({408, 409, 425, 429})
"""Client errors that may not be there next time."""
MISMATCH = "hash_mismatch"
SEGMENT = re.compile(r"[A-Za-z0-9._:@-]+")
"""What a server takes between two slashes."""
LONGEST_WAIT_MS = 3_600_000
"""A server that asks for more is asked again after an hour."""


@dataclass(frozen=True, slots=True)
class _Push:
    path: str
    body: Document
    base_hash: str | None


def _merge_with_server(entry: OutboxEntry, current: PullResult) -> Document:
    """Keep the server's value wherever both have one that is not an object."""
    return deep_merge(entry.item["body"], current.data)


class PushSender:
    """A ``send`` for `drain_outbox` that pushes to a Starfish server.

    An item is ``{"path": "notes/1", "body": {…}, "baseHash": "<64 hex>" or None}``: a document key
    (``/push/notes/1`` is accepted too), the document, and the hash it was made from.

    Args:
        client: with the server's ``base_url``, credentials and time-outs.
        on_conflict: called when the server has another document; by default the two are merged
            with `deep_merge`, the server's values winning.
        max_rounds: pushes of one entry in one attempt; each conflict takes one.
        now_ms: the clock, milliseconds since the epoch, for ``Retry-After`` dates.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        on_conflict: OnConflict | None = None,
        max_rounds: int = 5,
        now_ms: Callable[[], int] = system_now_ms,
    ) -> None:
        if max_rounds < 1:
            raise ValueError(f"max_rounds is {max_rounds}, must be at least 1")
        self._client = client
        self._on_conflict = _merge_with_server if on_conflict is None else on_conflict
        self._max_rounds = max_rounds
        self._now_ms = now_ms

    async def __call__(self, entry: OutboxEntry) -> None:
        """Push one entry; when it returns the server has the write.

        Raises:
            PermanentSendError: the item is no push, or the server will never take it.
            RetryAfterError: not now; the server said when.
            SendError: not now.
        """
        push = _parse(entry)
        for _ in range(self._max_rounds):
            response = await self._request("POST", PUSH_PATH_PREFIX + push.path, push)
            if not _is_mismatch(response):
                self._check(response)
                return
            if _hash_of(push.body) == _json(response).get(CURRENT_HASH_FIELD):
                return  # an earlier push of this very document arrived, its answer did not
            current = await self._pull(push.path)
            body = await self._resolve(entry, current)
            if body is None or (current.hash and body == current.data):
                return
            push = _Push(push.path, body, current.hash or None)
        raise SendError(
            f"{push.path} changed on the server during each of {self._max_rounds} tries"
        )

    async def _resolve(self, entry: OutboxEntry, current: PullResult) -> Document | None:
        decision = self._on_conflict(entry, current)
        if inspect.isawaitable(decision):
            return await decision
        return decision

    async def _pull(self, path: str) -> PullResult:
        response = await self._request("GET", PULL_PATH_PREFIX + path)
        self._check(response)
        answer = _json(response)
        data, digest, at = (answer.get(n) for n in (DATA_FIELD, HASH_FIELD, TIMESTAMP_FIELD))
        if not (isinstance(data, dict) and isinstance(digest, str) and isinstance(at, int)):
            raise SendError(f"the answer to a pull of {path} is no document")
        return PullResult(cast("Document", data), digest, at)

    async def _request(self, method: str, path: str, push: _Push | None = None) -> httpx.Response:
        content = None
        if push is not None:
            content = json.dumps({DATA_FIELD: push.body, BASE_HASH_FIELD: push.base_hash})
        headers = {HEADER_CONTENT_TYPE: "application/json"} if push is not None else None
        try:
            return await self._client.request(method, path, content=content, headers=headers)
        except httpx.InvalidURL as error:
            raise PermanentSendError(f"{path} is no path: {error}") from error
        except httpx.HTTPError as error:
            raise SendError(f"{method} {path}: {type(error).__name__}") from error

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if response.is_success:
            return
        what = f"{response.request.method} {response.request.url.path} was answered {status}"
        if 400 <= status < 500 and status not in PASSING_STATUSES:
            raise PermanentSendError(what)
        delay_ms = self._retry_after_ms(response.headers.get(HEADER_RETRY_AFTER))
        if delay_ms is not None:
            raise RetryAfterError(what, delay_ms)
        raise SendError(what)

    def _retry_after_ms(self, value: str | None) -> int | None:
        """RFC 9110 section 10.2.3: seconds or a date; anything else counts as not said."""
        if value is None:
            return None
        if re.fullmatch(r"[0-9]{1,9}", value.strip()):
            delay_ms = int(value) * 1000
        else:
            try:
                date = parsedate_to_datetime(value)
            except ValueError:
                return None
            if date.tzinfo is None:
                date = date.replace(tzinfo=UTC)
            delay_ms = int(date.timestamp() * 1000) - self._now_ms()
        return min(max(delay_ms, 0), LONGEST_WAIT_MS)


def _parse(entry: OutboxEntry) -> _Push:
    item: object = entry.item
    if not isinstance(item, dict):
        raise PermanentSendError(f"the item is {type(item).__name__}, must be an object")
    fields = cast("dict[str, object]", item)
    path, body, base_hash = fields.get("path"), fields.get("body"), fields.get("baseHash")
    if not isinstance(body, dict):
        raise PermanentSendError(f"body is {type(body).__name__}, must be an object")
    if base_hash is not None and not isinstance(base_hash, str):
        raise PermanentSendError(f"baseHash is {type(base_hash).__name__}, must be text or null")
    if not isinstance(path, str):
        raise PermanentSendError(f"path is {type(path).__name__}, must be text")
    key = path.removeprefix(PUSH_PATH_PREFIX).removeprefix("/")
    if any(s in {".", ".."} or not SEGMENT.fullmatch(s) for s in key.split("/")):
        raise PermanentSendError(
            f"path {path[:200]!r} is refused: letters, digits, . _ : @ - and /"
        )
    return _Push(key, cast("Document", body), base_hash)


def _hash_of(body: Document) -> str:
    try:
        return compute_hash(body)
    except (TypeError, ValueError) as error:
        raise PermanentSendError(f"body has no hash: {error}") from error


def _is_mismatch(response: httpx.Response) -> bool:
    return response.status_code == 409 and _json(response).get(ERROR_FIELD) == MISMATCH


def _json(response: httpx.Response) -> dict[str, object]:
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", answer) if isinstance(answer, dict) else {}

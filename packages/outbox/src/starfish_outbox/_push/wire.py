"""One request and what its answer says; an answer counts only as what the wire says.

Rule: a success is JSON with the protocol's members, a refusal is JSON that names an error. Everything
else was not said by the server: a page of a hotel's network, of a proxy, of nothing at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import cast

import httpx

from starfish_outbox._push.edit import HASH
from starfish_outbox._push.merge import Document
from starfish_outbox.errors import NotAuthorised, Refused, SendError, Unreachable
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
from starfish_protocol.types import PullResult

MISMATCH = "hash_mismatch"
PASSING = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that every other request would meet as well, and that pass."""
TOO_LARGE = frozenset({413, 414, 431})
"""Statuses about the request itself, also when a proxy says them."""
LONGEST_WAIT_MS = 3_600_000
"""A server that asks for more is asked again after an hour."""
LONGEST_TEXT = 200
"""Characters of a server's words that a reason quotes."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server says that it has a document."""

    hash: str


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The server has another document than the push was made from."""

    current_hash: str


class Wire:
    """Push and pull over one client."""

    def __init__(self, client: httpx.AsyncClient, now_ms: Callable[[], int]) -> None:
        self._client = client
        self._now_ms = now_ms

    async def push(self, path: str, body: Document, base_hash: str | None) -> Accepted | Mismatch:
        """Write a document over the one of a hash.

        Raises:
            SendError: one of its kinds.
        """
        content = json.dumps({DATA_FIELD: body, BASE_HASH_FIELD: base_hash})
        response = await self._request("POST", PUSH_PATH_PREFIX + path, content)
        answer = _json(response)
        if response.is_success:
            digest, at = answer.get(HASH_FIELD), answer.get(TIMESTAMP_FIELD)
            if _is_hash(digest) and _is_time(at):
                return Accepted(cast("str", digest))
            raise Unreachable(f"{_asked(response)} without the hash that proves it")
        current = answer.get(CURRENT_HASH_FIELD)
        is_mismatch = response.status_code == 409 and answer.get(ERROR_FIELD) == MISMATCH
        if is_mismatch and (current == "" or _is_hash(current)):
            return Mismatch(cast("str", current))
        raise self._refusal(response, answer)

    async def pull(self, path: str) -> PullResult:
        """The document of a path.

        Raises:
            SendError: one of its kinds.
        """
        response = await self._request("GET", PULL_PATH_PREFIX + path, None)
        answer = _json(response)
        if not response.is_success:
            raise self._refusal(response, answer)
        data, digest, at = (answer.get(n) for n in (DATA_FIELD, HASH_FIELD, TIMESTAMP_FIELD))
        is_document = isinstance(data, dict) and (digest == "" or _is_hash(digest))
        if not is_document or not _is_time(at):
            raise Unreachable(f"{_asked(response)}, which is not a document")
        return PullResult(cast("Document", data), cast("str", digest), cast("int", at))

    async def _request(self, method: str, path: str, content: str | None) -> httpx.Response:
        headers = {HEADER_CONTENT_TYPE: "application/json"} if content is not None else None
        try:
            return await self._client.request(method, path, content=content, headers=headers)
        except httpx.InvalidURL as error:
            raise Refused(f"{path} is not a path: {error}") from error
        except httpx.HTTPError as error:
            text = f"{method} {path}: {type(error).__name__}"
            raise Unreachable(f"{text}: {error}" if str(error) else text) from error

    def _refusal(  # noqa: PLR0911 - one decision
        self, response: httpx.Response, answer: dict[str, object]
    ) -> SendError:
        status = response.status_code
        said = _words(answer)
        reason = f"{_asked(response)}{': ' + said if said else ''}"
        delay_ms = self._retry_after_ms(response.headers.get(HEADER_RETRY_AFTER))
        if status == 401:
            return NotAuthorised(reason)
        if status == 403 and said:
            if "www-authenticate" in response.headers:
                return NotAuthorised(reason)
            # A bare "Forbidden" tells nothing about this write; more words do.
            if answer.get(ERROR_FIELD) in _BARE_REFUSALS and len(answer) == 1:
                return NotAuthorised(reason, is_certain=False)
            return Refused(reason)
        if status in TOO_LARGE:
            return Refused(reason)
        if 400 <= status < 500 and status not in PASSING and status != 409 and said:
            return Refused(reason)
        is_certain = status in PASSING or status < 400 or delay_ms is not None
        return Unreachable(reason, delay_ms=delay_ms, is_certain=is_certain)

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


_BARE_REFUSALS = frozenset({"Forbidden", "forbidden"})


def _asked(response: httpx.Response) -> str:
    request = response.request
    return f"{request.method} {request.url.path} was answered {response.status_code}"


def _words(answer: dict[str, object]) -> str:
    """The server's own words, as far as they are the protocol's or RFC 9457's."""
    told: list[str] = []
    for name in (ERROR_FIELD, "code", "title", "message", "detail", "field"):
        value = answer.get(name)
        if isinstance(value, str) and value and value not in told:
            told.append(value[:LONGEST_TEXT])
        elif name == "detail" and isinstance(value, list):
            told.append(json.dumps(value)[:LONGEST_TEXT])
    return ": ".join(told)


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and HASH.fullmatch(value) is not None


def _is_time(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _json(response: httpx.Response) -> dict[str, object]:
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", answer) if isinstance(answer, dict) else {}

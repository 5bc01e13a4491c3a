"""``/batch/pull``: many documents, one answer each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from starfish_http.answers import Answer, raw_json_answer
from starfish_http.errors import AuthError, HttpError
from starfish_protocol.constants import COLLECTIONS_FIELD
from starfish_server.config.schema import AppendOnlyConfig
from starfish_server.documents._append_log import PullBounds
from starfish_server.documents._json_shapes import is_list, is_object
from starfish_server.errors import ServerError
from starfish_server.requests._error_responses import answer_to
from starfish_server.requests._refusals import RequestRefusedError
from starfish_server.requests._request_context import Handler, RequestContext
from starfish_server.requests._served_collection import ServedCollection, check_params
from starfish_server.routes._appends import page_json, pull_bounds, read_page
from starfish_server.routes._keyrings import read_snapshot

__all__ = ("DENIED_SUFFIXES", "BatchLimits", "batch_pull_handler")

_FORBIDDEN = b'{"error":"Forbidden"}'


_BOUNDS = ("checkpoint", "since", "last", "limit")
_BUDGET_EXCEEDED = "Batch append element budget exceeded"
DENIED_SUFFIXES = ("/_keyring", "/_members")
"""Ends of keys that no batch reads: lists of members and keyrings are asked for one by one."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much one batch may ask for."""

    documents: int
    append_elements: int
    answer_bytes: int
    denied_suffixes: Sequence[str] = DENIED_SUFFIXES


@dataclass(frozen=True, slots=True)
class _Entry:
    """One document that is asked for."""

    params: dict[str, str]
    append: dict[str, Any] | None
    is_repeated: bool
    """Whether an entry before it asks for the same."""


def batch_pull_handler(members: Sequence[ServedCollection], limits: BatchLimits) -> Handler:
    """``GET /batch/pull`` over the collections of one namespace."""
    by_name = {member.name: member for member in members if member.config.bundle is None}
    denied = _DeniedKeys(members, limits.denied_suffixes)

    async def batch_pull(request: RequestContext) -> Answer:
        wanted = _wanted(request.query, limits)
        budget = _Budget(limits.append_elements)
        bytes_left = limits.answer_bytes
        parts: list[bytes] = []
        for name, entries in wanted.items():
            collection = by_name.get(name)
            answers: list[bytes] = []
            for entry in entries:
                try:
                    if collection is None or collection.config.push_only:
                        raise RequestRefusedError(404, "Collection not found")
                    if entry.is_repeated:
                        raise RequestRefusedError(400, "repeated_params")
                    if bytes_left <= 0:
                        raise RequestRefusedError(413, "batch_too_large")
                    caller = await request.caller()
                    await request.count(caller, collection, "pull")
                    asked = _asked(collection, entry, caller.auth.identity, denied)
                    answer = await _answer(request, asked, budget)
                    if len(answer) > bytes_left < limits.answer_bytes:
                        bytes_left = 0
                        raise RequestRefusedError(413, "batch_too_large")
                    bytes_left -= len(answer)
                except AuthError:  # refused credentials leave the caller anonymous in a batch
                    answer = _FORBIDDEN
                except (ServerError, HttpError) as error:
                    answer = answer_to(error).body
                answers.append(answer)
            parts.append(b"%b:[%b]" % (orjson.dumps(name), b",".join(answers)))
        field = orjson.dumps(COLLECTIONS_FIELD)
        return raw_json_answer(b"{%b:{%b}}" % (field, b",".join(parts)))

    return batch_pull


@dataclass(frozen=True, slots=True)
class _Asked:
    """One document of one collection."""

    collection: ServedCollection
    key: str
    params: dict[str, str]
    append: dict[str, Any] | None
    is_denied: bool


def _asked(
    collection: ServedCollection, entry: _Entry, identity: str | None, denied: _DeniedKeys
) -> _Asked:
    """The document that an entry means.

    Raises:
        RequestRefusedError: a parameter is missing.
        InvalidKeyError: a parameter is malformed.
    """
    params = _with_identity(collection, entry.params, identity)
    key = collection.template.expand(params)
    check_params(key, params)
    return _Asked(collection, key, params, entry.append, key in denied)


async def _answer(request: RequestContext, asked: _Asked, budget: _Budget) -> bytes:
    """What the document's own pull would answer, as JSON."""
    collection, key = asked.collection, asked.key
    context = await request.authorize(collection, key, asked.params, "pull")
    if asked.is_denied:
        raise RequestRefusedError(403, "Forbidden")
    if collection.config.is_binary:
        raise RequestRefusedError(400, "Binary collections cannot be pulled in a batch")
    answered = await request.plugins_answer(context)
    if answered is not None:
        if answered.status != 200 or not _is_json(answered.body):
            raise RequestRefusedError(answered.status, "answered by a plugin")
        return answered.body
    now = request.services.clock.now_ms()
    append_only = collection.config.append_only
    if append_only is None:
        if asked.append is not None:
            raise RequestRefusedError(400, "append_params_not_supported")
        snapshot = await read_snapshot(request, collection, key, context)
        view = await request.services.views.of(collection, key, snapshot, context)
        return b'{"data":%b,"hash":"%b","timestamp":%d%b}' % (
            view.data_json,
            view.hash.encode(),
            now,
            view.author,
        )
    bounds = budget.within(_bounds(asked.append or {}, append_only, request))
    page = await read_page(request, collection, key, bounds, context)
    budget.take(len(page.elements))
    return b'{"data":%b,"hash":"%b","timestamp":%d}' % (
        await page_json(append_only, page),
        page.hash.encode(),
        now,
    )


class _DeniedKeys:
    """Keys of keyrings and of lists of members.

    Args:
        members: the collections of one namespace.
        suffixes: ends of keys that are denied.
    """

    def __init__(self, members: Sequence[ServedCollection], suffixes: Sequence[str]) -> None:
        self._suffixes = tuple(suffixes)
        self._keyrings = [
            member.keyring
            for member in members
            if member.keyring is not None and member.config.keyring_path is not None
        ]

    def __contains__(self, key: str) -> bool:
        return f"/{key}".endswith(self._suffixes) or any(
            template.match(key) is not None for template in self._keyrings
        )


class _Budget:
    """Elements that a batch may still return."""

    def __init__(self, elements: int) -> None:
        self._left = elements

    def within(self, bounds: PullBounds) -> PullBounds:
        """Bounds that read one element too many at most."""
        most = self._left + 1
        at_most = most if bounds.at_most is None else min(most, bounds.at_most)
        return PullBounds(bounds.checkpoint, bounds.last, at_most)

    def take(self, count: int) -> None:
        """Count the elements that were read.

        Raises:
            RequestRefusedError: it was too much; nothing is counted.
        """
        if count > self._left:
            raise RequestRefusedError(400, _BUDGET_EXCEEDED)
        self._left -= count


def _wanted(query: Mapping[str, str], limits: BatchLimits) -> dict[str, list[_Entry]]:
    if not query.get("collections"):
        raise RequestRefusedError(400, "Missing required query parameter: collections")
    names = list(dict.fromkeys(name for name in query["collections"].split(",") if name))
    most = limits.documents
    if len(names) > most:
        raise RequestRefusedError(400, "Too many collections")
    params = _by_name(query.get("params"), "Invalid params parameter")
    for each in params.values():
        for params_set in each:
            _texts(params_set)
    appends = _checked_appends(query.get("appendParams"), limits.append_elements)
    wanted: dict[str, list[_Entry]] = {}
    for name in names:
        sets = params.get(name, [{}])
        bounds = appends.get(name, [None] * len(sets))
        if len(bounds) != len(sets):
            raise RequestRefusedError(
                400,
                "appendParams length mismatch: must equal params length for each collection",
            )
        pairs = list(zip(sets, bounds, strict=True))
        wanted[name] = [
            _Entry(_texts(each), own, is_repeated=(each, own) in pairs[:index])
            for index, (each, own) in enumerate(pairs)
        ]
    if sum(map(len, wanted.values())) > most:
        raise RequestRefusedError(400, "Too many collections")
    return wanted


def _checked_appends(text: str | None, most: int) -> dict[str, list[Any]]:
    """The bounds of append-only documents, by collection."""
    appends = _by_name(text, "Invalid appendParams parameter")
    declared = 0
    for name, each in appends.items():
        for bounds in each:
            _check_bounds(name, bounds)
            declared += _declared(bounds)
    if declared > most:
        raise RequestRefusedError(400, _BUDGET_EXCEEDED)
    return appends


def _by_name(text: str | None, problem: str) -> dict[str, list[Any]]:
    """A JSON object of lists."""
    if text is None:
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestRefusedError(400, problem) from error
    if not is_object(value) or not all(is_list(each) for each in value.values()):
        raise RequestRefusedError(400, problem)
    return value


def _texts(params: Any) -> dict[str, str]:
    """The parameters as texts; a value that is neither text nor number counts as not given."""
    if not is_object(params):
        raise RequestRefusedError(400, "Invalid params parameter")
    return {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in params.items()
        if isinstance(value, str) or type(value) in {int, float}
    }


def _declared(bounds: Any) -> int:
    """The elements that an entry asks for, where it says a number."""
    if bounds is None:
        return 0
    limit = bounds.get("limit")
    return int((bounds.get("last") if limit is None else limit) or 0)


def _check_bounds(name: str, bounds: Any) -> None:
    if bounds is None:
        return
    if not is_object(bounds):
        raise RequestRefusedError(400, "Invalid appendParams parameter")
    if bounds.get("full") is not None and bounds["full"] is not False:
        raise RequestRefusedError(400, f"appendParams[{name!r}]: full is not allowed in batch pull")
    for option in _BOUNDS:
        value = bounds.get(option)
        if value is not None and (type(value) is not int or not 0 <= value < 10**15):
            raise RequestRefusedError(400, "Invalid appendParams parameter")


def _with_identity(
    collection: ServedCollection, params: dict[str, str], identity: str | None
) -> dict[str, str]:
    """The parameters of the path, ``{identity}`` filled from the caller where it is not given."""
    complete: dict[str, str] = {}
    for name in collection.template.parameters:
        value = params.get(name)
        if value is None and name == "identity":
            value = identity
        if value is None:
            raise RequestRefusedError(400, "Missing required path parameter")
        complete[name] = value
    return complete


def _bounds(
    append: dict[str, Any], append_only: AppendOnlyConfig, request: RequestContext
) -> PullBounds:
    since = append.get("checkpoint", append.get("since"))
    given = {"checkpoint": since, "last": append.get("last"), "limit": append.get("limit")}
    query = {name: str(value) for name, value in given.items() if value is not None}
    return pull_bounds(query, append_only, request.services.clock)


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True

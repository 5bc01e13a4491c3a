"""``/batch/pull``: many documents, one answer each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from starfish_http.answers import Answer, raw_json_answer
from starfish_http.errors import HttpError
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
from starfish_server.routes._documents import read_snapshot

__all__ = ("BatchLimits", "batch_pull_handler")


_BOUNDS = ("checkpoint", "since", "last", "limit")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much one batch may ask for."""

    documents: int
    append_elements: int
    answer_bytes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """One document that is asked for."""

    params: dict[str, str]
    append: dict[str, Any] | None
    is_repeated: bool
    """Whether an entry before it asks for the same."""


def batch_pull_handler(members: Sequence[ServedCollection], limits: BatchLimits) -> Handler:
    """``GET /batch/pull`` over the collections of one namespace."""
    by_name = {member.name: member for member in members}

    async def batch_pull(request: RequestContext) -> Answer:
        wanted = _wanted(request.query, limits.documents)
        caller = await request.caller()
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
                    await request.count(caller, collection, "pull")
                    params = _with_identity(collection, entry.params, caller.auth.identity)
                    answer = await _answer(request, collection, params, entry.append, budget)
                    if len(answer) > bytes_left < limits.answer_bytes:
                        bytes_left = 0
                        raise RequestRefusedError(413, "batch_too_large")
                    bytes_left -= len(answer)
                except (ServerError, HttpError) as error:
                    answer = answer_to(error).body
                answers.append(answer)
            parts.append(b"%b:[%b]" % (orjson.dumps(name), b",".join(answers)))
        field = orjson.dumps(COLLECTIONS_FIELD)
        return raw_json_answer(b"{%b:{%b}}" % (field, b",".join(parts)))

    return batch_pull


async def _answer(
    request: RequestContext,
    collection: ServedCollection,
    params: dict[str, str],
    append: dict[str, Any] | None,
    budget: _Budget,
) -> bytes:
    """What the document's own pull would answer, as JSON."""
    key = collection.template.expand(params)
    check_params(key, params)
    context = await request.authorize(collection, key, params, "pull")
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
        if append is not None:
            raise RequestRefusedError(400, "append_params_not_supported")
        snapshot = await read_snapshot(request, collection, key, context)
        view = await request.services.views.of(collection, key, snapshot, context)
        return b'{"data":%b,"hash":"%b","timestamp":%d%b}' % (
            view.data_json,
            view.hash.encode(),
            now,
            view.author,
        )
    bounds = budget.within(_bounds(append or {}, append_only, request))
    page = await read_page(request, collection, key, bounds, context)
    budget.take(len(page.elements))
    return b'{"data":%b,"hash":"%b","timestamp":%d}' % (
        await page_json(append_only, page),
        page.hash.encode(),
        now,
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
            raise RequestRefusedError(413, "batch_append_limit_exceeded", limit=self._left)
        self._left -= count


def _wanted(query: Mapping[str, str], most: int) -> dict[str, list[_Entry]]:
    names = [name for name in query.get("collections", "").split(",") if name]
    if not names:
        raise RequestRefusedError(400, "Missing required query parameter: collections")
    names = list(dict.fromkeys(names))
    if len(names) > most:
        raise RequestRefusedError(400, "Too many collections", limit=most)
    params = _by_name(query.get("params"), "Invalid params parameter")
    appends = _by_name(query.get("appendParams"), "Invalid appendParams parameter")
    wanted: dict[str, list[_Entry]] = {}
    for each in params.values():
        for params_set in each:
            _texts(params_set)
    for name, each in appends.items():
        for bounds in each:
            _check_bounds(name, bounds)
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
        raise RequestRefusedError(400, "Too many collections", limit=most)
    return wanted


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
    if not is_object(params) or not all(isinstance(v, str) for v in params.values()):
        raise RequestRefusedError(400, "Invalid params parameter")
    return params


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
            raise RequestRefusedError(
                400, f"appendParams[{name!r}]: {option} must be a whole number of at least 0"
            )


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
            raise RequestRefusedError(400, "Missing required path parameter", parameter=name)
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

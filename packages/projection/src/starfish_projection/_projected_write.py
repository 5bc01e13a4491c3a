"""Ask the application what a write means: from an event to one operation on one list.

Rule: the application's functions are called here and nowhere else, and whatever they raise or
return becomes a `ProjectionFailure` with its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from starfish_projection._contained import (
    ApplicationRaisedError,
    ApplicationTimedOutError,
    call_contained,
)
from starfish_projection._definition import (
    Projection,
    ProjectionOp,
    ProjectionRemove,
    ProjectionSet,
    unsafe_target_reason,
)
from starfish_projection._drops import DropReason
from starfish_projection._fold import ListOperation
from starfish_projection._list_document import entry_fragment
from starfish_projection._store import ListStore
from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import WriteEvent

__all__ = (
    "ProjectedWrite",
    "ProjectionFailure",
    "newest",
    "project_removal",
    "project_write",
    "stored_write",
)

_LONE_SURROGATE = re.compile(r"(?<!\\)(?:\\\\)*\\ud[89a-f]")
"""In canonical text, which escapes a surrogate only when it is alone. Parsers refuse such a text,
so one entry with it would make the whole list unreadable."""


class ProjectionFailure(Exception):  # noqa: N818 - an answer of this package, never seen outside
    """A write gave no operation that could be folded."""

    def __init__(
        self,
        reason: DropReason,
        detail: str,
        *,
        target: str | None = None,
        op: ProjectionOp = None,
    ) -> None:
        super().__init__(detail)
        self.reason: DropReason = reason
        self.detail = detail
        self.target = target
        self.op: ProjectionOp = op


@dataclass(frozen=True, slots=True)
class ProjectedWrite:
    """One write, and what it does to one list."""

    projection: Projection
    event: WriteEvent
    target: str
    op: ProjectionSet | ProjectionRemove
    operation: ListOperation


async def project_write(
    projection: Projection, event: WriteEvent, *, limit_s: float
) -> ProjectedWrite | None:
    """What a write does to its list, ``None`` when the projection ignores it.

    Args:
        projection: whose functions are called.
        event: the write.
        limit_s: seconds that ``project`` may take.

    Raises:
        ProjectionFailure: a function of the projection raised, took too long or answered nonsense.
    """
    target = await _target_of(projection, event, limit_s)
    if target is None:
        return None
    op = await _op_of(projection, event, target, limit_s)
    return (
        None
        if op is None
        else ProjectedWrite(projection, event, target, op, _operation_of(op, target))
    )


class _NoFields(dict[str, Any]):
    """The body of a document that is gone, for a projection that reads its fields: each is ``None``."""

    def __missing__(self, name: str) -> None:
        return None

    def __bool__(self) -> bool:
        return True  # `event.body or {}` must not lose it


async def project_removal(
    projection: Projection, event: WriteEvent, *, limit_s: float
) -> ProjectedWrite | None:
    """What the end of a document does to its list: its entry goes.

    The functions of the projection see the document's parameters and an empty body; where they
    raise for that, they are asked once more with a body in which every field is ``None``. ``None``
    when they name no entry for those.

    Raises:
        ProjectionFailure: they cannot name the entry without the body.
    """
    try:
        return await _removal_with({}, projection, event, limit_s)
    except ProjectionFailure as failure:
        if failure.reason not in {"project_raised", "target_raised"}:
            raise
    return await _removal_with(_NoFields(), projection, event, limit_s)


async def _removal_with(
    body: dict[str, Any], projection: Projection, event: WriteEvent, limit_s: float
) -> ProjectedWrite | None:
    emptied = replace(event, body=body)
    target = await _target_of(projection, emptied, limit_s)
    if target is None:
        return None
    op = await _op_of(projection, emptied, target, limit_s)
    if op is None:
        return None
    removal = ProjectionRemove(op.id)
    return ProjectedWrite(projection, emptied, target, removal, _operation_of(removal, target))


async def _op_of(
    projection: Projection, event: WriteEvent, target: str, limit_s: float
) -> ProjectionSet | ProjectionRemove | None:
    try:
        op = await call_contained(projection.project, event, limit_s=limit_s)
    except ApplicationRaisedError as error:
        raise ProjectionFailure(
            "project_raised", f"project raised {type(error.error).__name__}", target=target
        ) from error.error
    except ApplicationTimedOutError as error:
        raise ProjectionFailure(
            "project_timed_out", f"project took more than {limit_s:g} s", target=target
        ) from error
    if op is None or isinstance(op, ProjectionSet | ProjectionRemove):
        return op
    raise ProjectionFailure(
        "operation_invalid",
        f"project returned {type(op).__name__}; it must be ProjectionSet, ProjectionRemove or None",
        target=target,
    )


async def newest(store: ListStore, written: ProjectedWrite, *, limit_s: float) -> ProjectedWrite:
    """The same write, or the newer one of the same document that took its place.

    Hooks of two pushes to one document may run in either order. An older value must not end up
    over a newer one, so an operation is compared with what the store holds for its document now.
    When a newer write gives an operation on the same entry, that one is returned; a document that
    the store does not hold as ordinary JSON is taken at its event's word.
    """
    event = written.event
    if event.document_key is None or event.body is None:
        return written
    key = event.document_key
    text = await store.get_string(key if event.namespace is None else f"{event.namespace}/{key}")
    # The usual case without parsing: these are the last bytes of an unsigned document. No text
    # inside of it can end so, as a quote within a JSON string is escaped.
    if text is None or text.endswith(f',"hash":"{event.hash}"}}'):
        return written
    newer = stored_write(text, event)
    if newer is None or newer.hash == event.hash:
        return written
    try:
        again = await project_write(written.projection, newer, limit_s=limit_s)
    except ProjectionFailure:
        return written
    if (
        again is None
        or again.target != written.target
        or again.operation.id != written.operation.id
    ):
        return written
    return again


def stored_write(text: str, event: WriteEvent) -> WriteEvent | None:
    """The write that left a stored document, ``None`` when the text is not an ordinary document.

    Args:
        text: what the store holds under the event's document key.
        event: says collection, parameters, namespace and key.

    Returns:
        An event without identity and sequence, which a stored document does not tell.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    stored = cast("dict[str, Any]", document)
    data, stored_hash, timestamp = stored.get("data"), stored.get("hash"), stored.get("ts")
    if (
        not isinstance(data, dict)
        or not isinstance(stored_hash, str)
        or not isinstance(timestamp, int)
    ):
        return None
    body = cast("dict[str, Any]", data)
    # An append-only collection keeps other things under its keys, and its hashes mean other bytes.
    try:
        if compute_hash(body) != stored_hash:
            return None
    except (TypeError, ValueError):
        return None
    return replace(
        event, hash=stored_hash, timestamp=timestamp, body=body, identity=None, sequence=None
    )


async def _target_of(projection: Projection, event: WriteEvent, limit_s: float) -> str | None:
    if isinstance(projection.target, str):
        return projection.target
    try:
        target = await call_contained(projection.target, event, limit_s=limit_s)
    except ApplicationRaisedError as error:
        raise ProjectionFailure(
            "target_raised", f"target raised {type(error.error).__name__}"
        ) from error.error
    except ApplicationTimedOutError as error:
        raise ProjectionFailure(
            "project_timed_out", f"target took more than {limit_s:g} s"
        ) from error
    if target is None:
        return None
    if not isinstance(target, str):
        raise ProjectionFailure(
            "target_invalid", f"target returned {type(target).__name__}; it must be a text or None"
        )
    problem = unsafe_target_reason(target)
    if problem is not None:
        raise ProjectionFailure("target_invalid", f"the key is unsafe: {problem}", target=target)
    return target


def _operation_of(op: ProjectionSet | ProjectionRemove, target: str) -> ListOperation:
    entry_id = cast("object", op.id)
    if not isinstance(entry_id, str):
        raise ProjectionFailure(
            "operation_invalid",
            f"the id is a {type(entry_id).__name__}; it must be a text",
            target=target,
            op=op,
        )
    if isinstance(op, ProjectionRemove):
        return ListOperation(entry_id, None)
    value = cast("object", op.value)
    if not isinstance(value, Mapping):
        raise ProjectionFailure(
            "operation_invalid",
            f"the value is a {type(value).__name__}; it must be a JSON object",
            target=target,
            op=op,
        )
    try:
        fragment = entry_fragment(entry_id, cast("Mapping[str, Any]", value))
    except (TypeError, ValueError) as error:
        # The message of the error may quote the value, so it stays with the cause.
        raise ProjectionFailure(
            "operation_invalid", "the value has no JSON form", target=target, op=op
        ) from error
    if _LONE_SURROGATE.search(fragment):
        raise ProjectionFailure(
            "operation_invalid", "the entry holds a lone surrogate", target=target, op=op
        )
    return ListOperation(entry_id, fragment)

"""Merging two edits of one document; no I/O.

Rule 1: a change that one side made is kept, deletions included, at every depth. Rule 2: where both
sides changed one field, the preferred side has it, and the other is named. Rule 3: without the
document that both were made from nothing is guessed: it is found by its hash, or it is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal, TypeGuard, cast

from starfish_protocol.hash import compute_hash
from starfish_protocol.merge import drop_unsafe_keys

Document = dict[str, Any]
Preference = Literal["mine", "theirs"]

MOST_CANDIDATES = 4_096
"""Documents that are hashed to find the base: some 50 ms for a document of a kilobyte."""
MOST_NAMED = 10
"""Fields that a message names."""


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""Stands for a field that is not there."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a merge."""

    document: Document
    given_up: tuple[str, ...]
    """Fields where the side that was not preferred had another value, as ``a.b``."""


def merge_three_ways(
    base: Mapping[str, Any],
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    *,
    prefer: Preference = "mine",
) -> Merged:
    """Merge two edits of one document.

    A list is one value. Keys that reach into an object's class are dropped, as the protocol's merge
    does.

    Args:
        base: the document that both edits were made from.
        mine: the one edit.
        theirs: the other one.
        prefer: which side has a field that both changed.

    Examples:
        >>> base = {"title": "v0", "done": False, "tag": "x"}
        >>> merge_three_ways(base, {"title": "v1", "done": False}, {**base, "done": True}).document
        {'title': 'v1', 'done': True}
        >>> merge_three_ways({"n": 0}, {"n": 1}, {"n": 2})
        Merged(document={'n': 1}, given_up=('n',))
    """
    given_up: list[str] = []
    document = _merged(base, mine, theirs, prefer, "", given_up)
    return Merged(drop_unsafe_keys(document), tuple(given_up))


def contains(whole: object, part: object) -> bool:
    """Whether every field of one document has the same value in another.

    Examples:
        >>> contains({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}), contains({"a": 1}, {"a": True})
        (True, False)
    """
    if _is_object(whole) and _is_object(part):
        return all(name in whole and contains(whole[name], value) for name, value in part.items())
    return _is_same(whole, part)


def find_base(
    base_hash: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Document | None:
    """The document that two edits were made from, when no field was changed by both.

    Each field of it is then the value of one side, or absent. The hash tells which combination it
    is, so that the answer is certain.

    Returns:
        ``None`` when there is no such combination, or there are too many.

    Examples:
        >>> base = {"title": "v0", "done": False}
        >>> find_base(compute_hash(base), {**base, "title": "v1"}, {**base, "done": True}) == base
        True
    """
    places: list[tuple[tuple[str, ...], list[Any]]] = []
    count = 1
    for path, values in _differences((), mine, theirs):
        count *= len(values)
        if count > MOST_CANDIDATES:
            return None
        places.append((path, values))
    for choice in product(*(values for _, values in places)):
        candidate: Document = _copy(theirs)
        for (path, _), value in zip(places, choice, strict=True):
            _put(candidate, path, value)
        try:
            if compute_hash(candidate) == base_hash:
                return candidate
            # Objects that both sides have, with nothing in them then, were not there at all.
            if _drop_empty(candidate, places) and compute_hash(candidate) == base_hash:
                return candidate
        except (TypeError, ValueError):
            return None
    return None


def without_deletions(base: Mapping[str, Any], mine: Mapping[str, Any]) -> Document:
    """The part of a base that an edit still has; against it the edit deletes nothing.

    Examples:
        >>> without_deletions({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}})
        {'a': {'b': 1}}
    """
    kept: Document = {}
    for name, value in base.items():
        if name in mine:
            ours = mine[name]
            both = _is_object(value) and _is_object(ours)
            kept[name] = without_deletions(value, ours) if both else value
    return kept


def with_steps(base: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Document:
    """A base against which the last of several versions shows every field that any of them changed.

    A version in between may have reached the server although nobody was told. A field that it
    changed and a later one changed back has its value there, so that changing it back is a change.

    Examples:
        >>> with_steps({"a": 1, "b": 1}, [{"a": 2, "b": 1, "c": 3}, {"a": 1, "b": 5}])
        {'a': 2, 'b': 1, 'c': 3}
    """
    last, result = steps[-1], dict(base)
    for step in steps[:-1]:
        for name in dict.fromkeys((*result, *step)):
            was, between, now = (side.get(name, ABSENT) for side in (result, step, last))
            if _is_object(was) and _is_object(between) and _is_object(now):
                result[name] = with_steps(was, [between, now])
            elif _is_same(was, now) and not _is_same(between, now):
                if between is ABSENT:
                    del result[name]
                else:
                    result[name] = between
    return result


def contradictions(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields that have another value in each of two documents, as ``a.b``."""
    return tuple(
        ".".join(path)
        for path, values in _differences((), mine, theirs)
        if not any(value is ABSENT for value in values[:2])
    )


def name_fields(fields: tuple[str, ...]) -> str:
    """Some of the fields, for a message."""
    more = f" and {len(fields) - MOST_NAMED} more" if len(fields) > MOST_NAMED else ""
    return ", ".join(field[:80] for field in fields[:MOST_NAMED]) + more


def _merged(  # noqa: PLR0917 - one recursion
    base: Mapping[str, Any],
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    prefer: Preference,
    path: str,
    given_up: list[str],
) -> Document:
    merged: Document = {}
    for name in dict.fromkeys((*theirs, *mine)):
        was, ours, other = (side.get(name, ABSENT) for side in (base, mine, theirs))
        if _is_same(ours, other) or _is_same(was, ours):
            value = other
        elif _is_same(was, other):
            value = ours
        elif _is_object(ours) and _is_object(other):
            inside: Mapping[str, Any] = was if _is_object(was) else {}
            value = _merged(inside, ours, other, prefer, f"{path}{name}.", given_up)
        else:
            given_up.append(f"{path}{name}")
            value = ours if prefer == "mine" else other
        if value is not ABSENT:
            merged[name] = value
    return merged


def _differences(
    path: tuple[str, ...], mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """Places where two documents differ, with the values that the base may have there."""
    for name in dict.fromkeys((*theirs, *mine)):
        ours, other = mine.get(name, ABSENT), theirs.get(name, ABSENT)
        if _is_same(ours, other):
            continue
        if _is_object(ours) and _is_object(other) and ours and other:
            yield from _differences((*path, name), ours, other)
        else:
            values = [ours, other]
            yield (*path, name), values if ABSENT in values else [*values, ABSENT]


def _put(document: Document, path: tuple[str, ...], value: object) -> None:
    for name in path[:-1]:
        document = document[name]
    if value is ABSENT:
        document.pop(path[-1], None)
    else:
        document[path[-1]] = value


def _drop_empty(document: Document, places: Iterable[tuple[tuple[str, ...], list[Any]]]) -> bool:
    """Take objects out that have no field left; whether there were any."""
    dropped = False
    for path, _ in places:
        for depth in range(len(path) - 1, 0, -1):
            above = document
            for name in path[: depth - 1]:
                above = above.get(name, {})
            if above.get(path[depth - 1]) == {}:
                del above[path[depth - 1]]
                dropped = True
    return dropped


def _copy(value: Any) -> Any:
    return {name: _copy(member) for name, member in value.items()} if _is_object(value) else value


def _is_same(one: object, other: object) -> bool:
    """Equality of JSON values: ``True`` is not 1, and 1.0 is 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if _is_object(one) and _is_object(other):
        return one.keys() == other.keys() and all(_is_same(one[n], other[n]) for n in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        ours = cast("list[object]", one)
        theirs = cast("list[object]", other)
        return len(ours) == len(theirs) and all(map(_is_same, ours, theirs))
    return one == other


def _is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)

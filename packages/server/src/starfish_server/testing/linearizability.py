"""Whether a recorded history of a store could have happened one operation after the other.

Each key is a register: it holds a version or nothing. A history is linearizable when every
operation can be given a moment between its call and its reply, so that each one saw what the
register held then. The search is that of Wing and Gong ("Testing and verifying concurrent objects",
1993) with the states remembered that led nowhere (Lowe, 2017), for one key at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = ("ANY_VERSION", "Operation", "Violation", "find_violation")

ANY_VERSION: Final = "*"
"""The condition of a write that happens whatever the key holds."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client; times are of one clock that never goes back.

    Examples:
        >>> Operation("k", "read", called=1, replied=2, version="a").key
        'k'
    """

    key: str
    """What it was about."""
    kind: Literal["read", "write", "delete"]
    """What was asked for."""
    called: int
    """When it began."""
    replied: int | None
    """When its reply came; ``None`` for a write or delete whose answer was lost: it may take effect
    at any time, or never. A read without a reply, and whatever surely changed nothing, is left out.
    """
    version: str | None = None
    """The version that was read or written, another one for each write; ``None`` for nothing."""
    expected: str | None = ANY_VERSION
    """The version that must be there for a write or delete; ``None`` when there must be none."""
    is_refused: bool = False
    """Whether it was refused because another version was there."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A key whose operations fit in no order."""

    key: str
    """The key."""
    explained: Sequence[Operation]
    """The longest order that was found."""
    unexplained: Operation
    """The operation whose reply came first among those that fit nowhere behind it."""

    def __str__(self) -> str:
        last = "\n".join(f"  {each}" for each in self.explained[-5:])
        return f"key {self.key!r}: after\n{last}\nthere is no moment for\n  {self.unexplained}"


def find_violation(history: Iterable[Operation]) -> Violation | None:
    """Find a key whose operations could not have happened one after the other.

    Args:
        history: of any number of keys, in any order; all keys begin empty.

    Returns:
        The first such key in the order of the keys; ``None`` when every history fits.

    Examples:
        >>> stale = [
        ...     Operation("k", "write", called=1, replied=2, version="a"),
        ...     Operation("k", "write", called=3, replied=4, version="b"),
        ...     Operation("k", "read", called=5, replied=6, version="a"),
        ... ]
        >>> find_violation(stale[:2]) is None
        True
        >>> find_violation(stale).unexplained.kind
        'read'
    """
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    for key in sorted(by_key):
        found = _violation_of(key, by_key[key])
        if found is not None:
            return found
    return None


def _after(operation: Operation, version: str | None) -> tuple[bool, str | None]:
    """Whether an operation may find a version, and the version that it leaves."""
    if operation.kind == "read":
        return operation.version == version, version
    holds = operation.expected in (ANY_VERSION, version)
    if operation.replied is None:  # a refusal nobody heard of, or a success
        return True, operation.version if holds else version
    if operation.is_refused:
        return not holds, version
    return holds, operation.version


@dataclass(slots=True)
class _Search:
    """Operations in the order of their calls, and those that may come next."""

    operations: Sequence[Operation]
    done: int = 0
    """A bit for each operation that has its place."""
    order: list[int] = field(default_factory=list[int])
    replies: list[tuple[int, int]] = field(init=False)
    """Times of the replies, and whose they are."""

    def __post_init__(self) -> None:
        self.replies = sorted(
            (each.replied, number)
            for number, each in enumerate(self.operations)
            if each.replied is not None
        )

    def first_reply(self, start: int) -> int:
        """Index of the first reply, from one on, of an operation that has no place yet."""
        while start < len(self.replies) and self.done >> self.replies[start][1] & 1:
            start += 1
        return start


@dataclass(slots=True)
class _Step:
    version: str | None
    reply: int
    """Where the first reply of an operation without a place is."""
    call: int
    """Operations before this one all have their place."""
    tried: int
    """The next operation to be tried."""


def _violation_of(key: str, operations: Sequence[Operation]) -> Violation | None:
    search = _Search(sorted(operations, key=lambda each: each.called))
    calls, seen = search.operations, set[tuple[int, str | None]]()
    steps = [_Step(None, search.first_reply(0), 0, 0)]
    best: list[int] = []
    stuck = search.replies[0][1] if search.replies else 0
    while steps:
        step = steps[-1]
        if step.reply == len(search.replies):  # the rest are lost answers, which need no moment
            return None
        end = search.replies[step.reply][0]
        number, version = step.tried, step.version
        while number < len(calls) and calls[number].called <= end:
            if not search.done >> number & 1:
                is_possible, version = _after(calls[number], step.version)
                state = (search.done | 1 << number, version)
                if is_possible and state not in seen:
                    seen.add(state)
                    break
            number += 1
        else:
            steps.pop()
            if search.order:
                search.done &= ~(1 << search.order.pop())
            continue
        step.tried = number + 1
        search.done |= 1 << number
        search.order.append(number)
        call = step.call
        while call < len(calls) and search.done >> call & 1:
            call += 1
        steps.append(_Step(version, search.first_reply(step.reply), call, call))
        if len(search.order) > len(best):
            best = list(search.order)
            left = steps[-1].reply
            stuck = search.replies[left][1] if left < len(search.replies) else stuck
    return Violation(key, [calls[number] for number in best], calls[stuck])

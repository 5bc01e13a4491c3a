"""What an application says about a view: from which writes, into which list, which entry.

Rule: nothing here reads a store. A mistake that can be seen without an event is a ``TypeError``
or ``ValueError`` when the projection is built, not a dropped operation at the first push.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from starfish_protocol.plugins import WriteEvent

__all__ = (
    "Projection",
    "ProjectionOp",
    "ProjectionRemove",
    "ProjectionSet",
    "ProjectionTarget",
)

MAX_TARGET_BYTES = 1024
"""Bytes of UTF-8 in a target: what every store takes."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ProjectionSet:
    """Put an entry into the list: at the end when it is new, in its place when it is there.

    Examples:
        >>> ProjectionSet("n1", {"title": "Milk"})
        ProjectionSet(id='n1', value={'title': 'Milk'})
    """

    id: str
    """Which entry; unique within its list."""
    value: Mapping[str, Any]
    """What the entry shows; a JSON object."""


@dataclass(frozen=True, slots=True)
class ProjectionRemove:
    """Take an entry out of the list; nothing happens when it is not there."""

    id: str
    """Which entry."""


ProjectionOp = ProjectionSet | ProjectionRemove | None
"""What one write does to a list; ``None`` when it does nothing."""
ProjectionTarget = str | Callable[[WriteEvent], str | None]
"""The storage key of a list document, or a function that names it; ``None`` ignores the write."""


@dataclass(frozen=True, slots=True)
class Projection:
    """One view: which writes feed it, where its list is, and what a write means to it.

    ``project`` must depend on its event only. It may run more than once for one write: after a
    race with a newer write of the same document, and in a rebuild.

    Raises:
        TypeError: a field is of the wrong kind.
        ValueError: a name is empty.

    Examples:
        >>> notes = Projection(
        ...     source="notes",
        ...     target=lambda event: f"note-lists/{event.params['identity']}",
        ...     project=lambda event: ProjectionSet(event.params["note"], {"title": event.body["title"]}),
        ... )
        >>> notes.sources
        ('notes',)
    """

    source: str | Sequence[str]
    """Name or names of the collections whose pushes are followed, in every namespace."""
    target: ProjectionTarget
    """Where the list is stored: a whole storage key, so a list in a namespace begins with it."""
    project: Callable[[WriteEvent], ProjectionOp | Awaitable[ProjectionOp]]
    """Turns a write into an operation; runs only when ``target`` named a list."""

    def __post_init__(self) -> None:
        source = cast("object", self.source)
        if not isinstance(source, Sequence) or isinstance(source, bytes):
            raise TypeError(f"source is {source!r}; it must be a collection name or several")
        names = cast("tuple[object, ...]", self.sources)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"source is {source!r}; every collection name must be a text")
        if isinstance(self.target, str):
            problem = unsafe_target_reason(self.target)
            if problem is not None:
                raise ValueError(f"target {self.target[:200]!r} is not a storage key: {problem}")
        elif not callable(cast("object", self.target)) or inspect.iscoroutinefunction(self.target):
            raise TypeError(
                f"target is {self.target!r}; it must be a storage key or a plain function"
            )
        if not callable(cast("object", self.project)):
            raise TypeError(f"project is {self.project!r}; it must be a function, async or not")

    @property
    def sources(self) -> tuple[str, ...]:
        """The source collections, also when only one was given."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)


def unsafe_target_reason(key: str) -> str | None:
    """Why a list must not be stored under a key; ``None`` when it may.

    A target function may build its key from what a client pushed, so a key must not climb out of
    the folder that the function wrote down.

    Examples:
        >>> unsafe_target_reason("note-lists/ada")
        >>> unsafe_target_reason("note-lists/../secrets")
        "it contains '..'"
    """
    if ".." in key:
        return "it contains '..'"
    if not key or key.startswith("/") or key.endswith("/") or "//" in key:
        return "it has an empty segment"
    if "." in key.split("/"):
        return "it has the segment '.'"
    if _CONTROL.search(key):
        return "it contains a control character or a lone surrogate"
    if len(key.encode()) > MAX_TARGET_BYTES:
        return f"it is longer than {MAX_TARGET_BYTES} bytes"
    return None

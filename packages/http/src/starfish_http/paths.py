"""Find the route of a path among many, in time that does not grow with their number.

A path is looked up segment by segment. Parameters match any text here: whether a value is allowed
is decided once the route is known, so that one that is refused is a 400 and not a 404.
"""

from __future__ import annotations

import re
from typing import Generic, TypeVar

__all__ = ("PathTable",)

_Route = TypeVar("_Route")
_SEGMENT = re.compile(r"([^{}]*)\{(\w+)\}([^{}]*)")


class _Node(Generic[_Route]):
    __slots__ = ("literals", "parameters", "route")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[_Route]] = {}
        self.parameters: list[tuple[str, str, str, _Node[_Route]]] = []
        """Text before, name, text after."""
        self.route: _Route | None = None


class PathTable(Generic[_Route]):
    """Routes by path template.

    Examples:
        >>> table = PathTable()
        >>> table.add("pull/notes/{note}", "one note")
        >>> table.find("pull/notes/7")
        ('one note', {'note': '7'})
        >>> table.find("pull/notes") is None
        True
    """

    def __init__(self) -> None:
        self._root: _Node[_Route] = _Node()

    def add(self, template: str, route: _Route) -> None:
        """Add a route; one of the same template is replaced."""
        self._node(template).route = route

    def get(self, template: str) -> _Route | None:
        """The route of this very template."""
        return self._node(template).route

    def _node(self, template: str) -> _Node[_Route]:
        node = self._root
        for segment in template.split("/"):
            found = _SEGMENT.fullmatch(segment)
            if found is None:
                node = node.literals.setdefault(segment, _Node[_Route]())
                continue
            before, name, after = found.groups()
            for *known, child in node.parameters:
                if known == [before, name, after]:
                    node = child
                    break
            else:
                child = _Node[_Route]()
                node.parameters.append((before, name, after, child))
                # The most text first: `report-{id}` before `{id}`.
                node.parameters.sort(key=lambda each: -len(each[0]) - len(each[2]))
                node = child
        return node

    def find(self, path: str) -> tuple[_Route, dict[str, str]] | None:
        """The route of a path and its parameters; fixed text wins over a parameter."""
        return _find(self._root, path.split("/"), 0, {})


def _find(
    node: _Node[_Route], segments: list[str], at: int, params: dict[str, str]
) -> tuple[_Route, dict[str, str]] | None:
    # Straight on while only fixed text can match, which is most of the way.
    count = len(segments)
    while at < count:
        segment = segments[at]
        child = node.literals.get(segment)
        if not node.parameters:
            if child is None:
                return None
            node, at = child, at + 1
            continue
        if child is not None:
            found = _find(child, segments, at + 1, params)
            if found is not None:
                return found
        for before, name, after, below in node.parameters:
            if len(segment) < len(before) + len(after):
                continue
            if segment.startswith(before) and segment.endswith(after):
                value = segment[len(before) : len(segment) - len(after)]
                found = _find(below, segments, at + 1, {**params, name: value})
                if found is not None:
                    return found
        return None
    return None if node.route is None else (node.route, params)

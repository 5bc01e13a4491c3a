"""Fold operations into a list.

Rule 1: no I/O and no clock here. Rule 2: folding the same operations twice leaves the same list;
a rebuild relies on it. Rule 3: operations apply one after the other in the order given, so folding
two batches equals folding both at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starfish_projection._list_document import ListDocument

__all__ = ("FoldResult", "ListOperation", "fold")


@dataclass(frozen=True, slots=True)
class ListOperation:
    """One change to a list, with its value already in canonical form."""

    id: str
    """Which entry."""
    fragment: str | None
    """Canonical text of the entry; ``None`` removes it."""


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What folding did."""

    put: int
    """Operations that added or replaced an entry."""
    removed: int
    """Operations that took one out."""
    refused: frozenset[int]
    """Positions of the appends that found the list full."""

    @property
    def changed(self) -> bool:
        """Whether the list must be written."""
        return self.put + self.removed > 0


def fold(
    document: ListDocument, operations: Sequence[ListOperation], *, max_items: int | None
) -> FoldResult:
    """Apply operations to ``document`` in place.

    Examples:
        >>> from starfish_projection._list_document import entry_fragment
        >>> document = ListDocument()
        >>> a = ListOperation("a", entry_fragment("a", {}))
        >>> b = ListOperation("b", entry_fragment("b", {}))
        >>> fold(document, [a, b, ListOperation("a", None)], max_items=1)
        FoldResult(put=1, removed=1, refused=frozenset({1}))
        >>> len(document)
        0
    """
    put = removed = 0
    refused: set[int] = set()
    for index, operation in enumerate(operations):
        if operation.fragment is None:
            removed += document.remove(operation.id)
        elif max_items is not None and len(document) >= max_items and operation.id not in document:
            refused.add(index)
        else:
            put += document.put(operation.id, operation.fragment)
    return FoldResult(put=put, removed=removed, refused=frozenset(refused))

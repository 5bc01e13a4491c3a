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

    changed: bool
    """Whether the list must be written."""
    refused: frozenset[int]
    """Positions of the appends that found the list full."""


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
        FoldResult(changed=True, refused=frozenset({1}))
        >>> len(document)
        0
    """
    changed = False
    refused: set[int] = set()
    for index, operation in enumerate(operations):
        if operation.fragment is None:
            changed |= document.remove(operation.id)
        elif max_items is not None and len(document) >= max_items and operation.id not in document:
            refused.add(index)
        else:
            changed |= document.put(operation.id, operation.fragment)
    return FoldResult(changed=changed, refused=frozenset(refused))

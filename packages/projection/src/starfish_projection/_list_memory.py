"""The lists that were written last, so that the next append need not read them again.

Rule: a list that is being changed is not in here. `ListMemory.take` removes it, and it comes back
through `ListMemory.keep` only when the store is known to hold exactly it; whatever goes wrong in
between leaves the memory empty, never wrong.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from starfish_projection._list_document import ListDocument

__all__ = ("ListMemory", "RememberedList")


@dataclass(frozen=True, slots=True)
class RememberedList:
    """A list as some version in the store had it."""

    document: ListDocument
    etag: str


class ListMemory:
    """Remembers lists, the least recently used forgotten first.

    Examples:
        >>> memory = ListMemory(max_lists=1, max_bytes=1_000)
        >>> memory.keep("a", RememberedList(ListDocument(), "1"))
        >>> memory.keep("b", RememberedList(ListDocument(), "2"))
        >>> memory.take("a"), memory.take("b").etag, memory.take("b")
        (None, '2', None)
    """

    def __init__(self, *, max_lists: int, max_bytes: int) -> None:
        self._max_lists = max_lists
        self._max_bytes = max_bytes
        self._lists: OrderedDict[str, tuple[RememberedList, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._lists)

    @property
    def size_bytes(self) -> int:
        """About how much memory the lists hold."""
        return self._bytes

    def take(self, target: str) -> RememberedList | None:
        """Hand a list over and forget it."""
        found = self._lists.pop(target, None)
        if found is None:
            return None
        self._bytes -= found[1]
        return found[0]

    def keep(self, target: str, remembered: RememberedList) -> None:
        """Remember a list, and forget others until both bounds hold."""
        self.take(target)
        size = remembered.document.size_bytes
        self._lists[target] = (remembered, size)
        self._bytes += size
        while len(self._lists) > self._max_lists or self._bytes > self._max_bytes:
            _, (_, forgotten) = self._lists.popitem(last=False)
            self._bytes -= forgotten

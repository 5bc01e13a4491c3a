"""What happened, as 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ("RESERVED_CATEGORIES", "EventKind", "kind_of_code")

RESERVED_CATEGORIES: Final = frozenset({0x0, 0xD})
"""Categories that no application may use."""


@dataclass(frozen=True, slots=True, order=True)
class EventKind:
    """A category of four bits and a type of twelve.

    Raises:
        ValueError: the code has more than 16 bits or a reserved category.

    Examples:
        >>> str(EventKind.custom(0xF, 1))
        '0xF001'
    """

    code: int
    """``category << 12 | type_id``."""

    def __post_init__(self) -> None:
        if not 0 <= self.code <= 0xFFFF:
            msg = f"event kind {self.code:#x} is refused: it must be 0x0000 to 0xFFFF"
            raise ValueError(msg)
        if self.category in RESERVED_CATEGORIES:
            msg = f"event kind {self} is refused: categories 0x0 and 0xD are reserved"
            raise ValueError(msg)

    @classmethod
    def custom(cls, category: int, type_id: int) -> EventKind:
        """The kind ``type_id`` (0 to 0xFFF) of ``category`` (0x1 to 0xF without 0xD).

        Raises:
            ValueError: one of them is out of range, or the category is reserved.
        """
        if not 0 <= category <= 0xF:
            msg = f"category {category:#x} is refused: it must be 0x1 to 0xF, without 0xD"
            raise ValueError(msg)
        if not 0 <= type_id <= 0xFFF:
            msg = f"type {type_id:#x} is refused: it must be 0x000 to 0xFFF"
            raise ValueError(msg)
        return cls(category << 12 | type_id)

    @property
    def category(self) -> int:
        """The upper four bits."""
        return self.code >> 12

    @property
    def type_id(self) -> int:
        """The lower twelve bits."""
        return self.code & 0xFFF

    def __str__(self) -> str:
        return f"0x{self.code:04X}"


@lru_cache(maxsize=1024)
def kind_of_code(code: int) -> EventKind:
    """The kind of a stored code."""
    return EventKind(code)

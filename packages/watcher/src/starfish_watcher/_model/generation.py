"""The token of a state: a number that also knows which state of which history it is of."""

from __future__ import annotations

from typing import Any, Self

__all__ = ("Generation",)


class Generation(int):
    """How many events of an entity ever became visible, and since which compaction.

    It is an ``int`` and equal to a plain number of the same value. Two generations are compared by
    `epoch` first: a compaction that took events of the entity makes every later state newer,
    although the number stays. A plain number says nothing of that; keep `token` to carry all of it
    to another process.

    Examples:
        >>> before, after = Generation(50), Generation(50, epoch=40)
        >>> before < after, after == 50, Generation.from_token(after.token) == after
        (True, True, True)
    """

    epoch: int
    """Events of the entity that compaction had removed."""
    sequence: int
    """Sequence of the entity's newest event then; 0 when it is not known."""
    mark: bytes
    """The first bytes of that event's hash; empty when they are not known."""

    def __new__(cls, value: int, *, epoch: int = 0, sequence: int = 0, mark: bytes = b"") -> Self:
        self = super().__new__(cls, value)
        if isinstance(value, Generation):
            epoch, sequence, mark = value.epoch, value.sequence, value.mark
        self.epoch = epoch
        self.sequence = sequence
        self.mark = mark
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[int], dict[str, Any]]:
        return (int(self),), {"epoch": self.epoch, "sequence": self.sequence, "mark": self.mark}

    @property
    def token(self) -> str:
        """The generation as a text that `from_token` reads."""
        return f"{int(self)}.{self.epoch}.{self.sequence}.{self.mark.hex()}"

    @classmethod
    def from_token(cls, token: str) -> Self:
        """The generation that gave ``token``.

        Raises:
            ValueError: it is not a token.
        """
        try:
            value, epoch, sequence, mark = token.split(".")
            return cls(
                int(value), epoch=int(epoch), sequence=int(sequence), mark=bytes.fromhex(mark)
            )
        except (AttributeError, ValueError):
            msg = f"{token!r:.100} is not the token of a generation"
            raise ValueError(msg) from None

    def is_newer_than(self, other: int) -> bool:
        """Whether a state of this generation may differ from one of ``other``."""
        if isinstance(other, Generation):
            return (self.epoch, int(self)) > (other.epoch, int(other))
        return int(self) > other

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Generation) and self.epoch != other.epoch:
            return False
        return int.__eq__(self, other) if isinstance(other, int) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__

    def __gt__(self, other: int) -> bool:
        return self.is_newer_than(other)

    def __lt__(self, other: int) -> bool:
        if isinstance(other, Generation):
            return other.is_newer_than(self)
        return int.__lt__(self, other)

    def __ge__(self, other: int) -> bool:
        return not self < other

    def __le__(self, other: int) -> bool:
        return not self > other

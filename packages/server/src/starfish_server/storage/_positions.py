"""Places in a change log that know which log they are of.

Rule 1: a change is labelled with the start under which it was recorded. A start is a random stamp
that a process records in the log, with the sequence it began after, in the same step as its first
change. So a log that was copied back and goes on gives its new changes another label than the
ones that were lost, while a plain restart leaves the labels of old changes as they are. Rule 2:
the epoch is replaced on purpose, by a restore or an import, and ends every position.
"""

from __future__ import annotations

import re
import secrets
from bisect import bisect_left
from dataclasses import dataclass

from starfish_server.storage.errors import InvalidPositionError, PositionLostError
from starfish_server.storage.values import Position

__all__ = ("LogState", "new_stamp", "sequence_of")

_POSITION = re.compile(r"([0-9a-z]{1,32})-([0-9a-z]{1,32})-(0|[1-9][0-9]{0,18})")
_NO_START = "0"
"""Labels the place before the first change."""


def new_stamp() -> str:
    """Draw a name for an epoch or a start."""
    return secrets.token_hex(8)


def sequence_of(position: Position) -> int:
    """Return the number within a position.

    Raises:
        InvalidPositionError: the text is not a position.
    """
    return _parts(position)[2]


@dataclass(frozen=True, slots=True)
class LogState:
    """What a log knows of itself at one moment."""

    epoch: str
    """Identity of the log."""
    starts: tuple[tuple[int, str], ...]
    """Sequence after which a start began, and its stamp; ascending."""
    last: int
    """Sequence of the newest change that was ever recorded."""
    floor: int
    """Tombstones up to this sequence may have been removed by compaction."""

    def at(self, sequence: int) -> Position:
        """The position right after a change."""
        return f"{self.epoch}-{self._label(sequence)}-{sequence}"

    def after(self, position: Position | None) -> int:
        """The sequence behind which a reader goes on.

        Raises:
            InvalidPositionError: the text is not a position.
            PositionLostError: the position is of another log, or of a part of this one that is
                not there any more.
        """
        if position is None:
            return 0
        epoch, label, sequence = _parts(position)
        if epoch != self.epoch:
            raise PositionLostError(position, "it is of another epoch of the log")
        if sequence > self.last:
            raise PositionLostError(position, "the log does not reach so far any more")
        if label != self._label(sequence):
            raise PositionLostError(position, "the log was put back and has gone another way since")
        if 0 < sequence < self.floor:
            raise PositionLostError(position, "the log was compacted beyond it")
        return sequence

    def _label(self, sequence: int) -> str:
        if sequence == 0:
            return _NO_START
        index = bisect_left(self.starts, (sequence,)) - 1  # the newest that began before
        return self.starts[index][1] if index >= 0 else _NO_START


def _parts(position: Position) -> tuple[str, str, int]:
    found = _POSITION.fullmatch(position)
    if found is None:
        raise InvalidPositionError(position)
    return found[1], found[2], int(found[3])

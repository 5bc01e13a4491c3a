"""Which connections are open, and which of them makes room for another.

A connection that has not sent a request makes room for one that may: first among those of its own
address, then among those of the address that holds most. After these come connections that were
answered and wait for the next request. One that is being answered is never cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

__all__ = ("Connection", "ConnectionTable")


class Connection(Protocol):
    """What the table needs to know of a connection."""

    def has_asked(self) -> bool:
        """Whether the head of a request ever arrived whole."""
        ...

    def is_idle(self) -> bool:
        """Whether nothing is being answered."""
        ...

    def make_room(self) -> None:
        """Close at once."""
        ...


class ConnectionTable:
    """The open connections of one server.

    Args:
        total: most of them.
        per_address: most of one address; ``None`` for as many as there are.
    """

    def __init__(self, total: int, per_address: int | None) -> None:
        self._total = total
        self._per_address = total if per_address is None else per_address
        self._open: dict[str, dict[Connection, None]] = {}
        self._count = 0
        self.turned_away = 0
        """Connections that were not taken in and are being told so."""

    def __len__(self) -> int:
        return self._count

    def admit(self, connection: Connection, address: str) -> bool:
        """Take a connection in, in the place of another where it must be.

        Returns:
            Whether there was room.
        """
        own = self._open.get(address, {})
        if len(own) >= self._per_address:
            if not self._close_one(address):
                return False
        elif self._count >= self._total:
            heaviest = max(self._open, key=lambda each: len(self._open[each]))
            if not self._close_one(heaviest):
                return False
        self._open.setdefault(address, {})[connection] = None
        self._count += 1
        return True

    def release(self, connection: Connection, address: str) -> None:
        """Forget a connection that is closed, or was never taken in."""
        own = self._open.get(address)
        if own is None or connection not in own:
            return
        del own[connection]
        self._count -= 1
        if not own:
            del self._open[address]

    def _close_one(self, address: str) -> bool:
        for connection in self._candidates(address):
            self.release(connection, address)
            connection.make_room()
            return True
        return False

    def _candidates(self, address: str) -> Iterator[Connection]:
        own = self._open[address]
        yield from (each for each in own if not each.has_asked())
        yield from (each for each in own if each.is_idle())

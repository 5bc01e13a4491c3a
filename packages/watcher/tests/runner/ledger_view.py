"""The view of the processes of `test_processes`."""

from __future__ import annotations

import sqlite3
from typing import Any

from starfish_watcher import View

__all__ = ("PoisonLedger",)


class PoisonLedger(View[Any]):
    """A row for each event; refuses negative amounts after it wrote."""

    name = "ledger"

    def prepare(self, tables: Any) -> None:
        """Make the table; nothing in it refuses a second row of one event."""
        tables.execute("CREATE TABLE ledger (sequence BIGINT, entity TEXT)")

    def apply(self, tables: Any, event: Any) -> None:
        """Write the row, and then look at the amount."""
        mark = "?" if isinstance(tables, sqlite3.Connection) else "%s"
        tables.execute(
            f"INSERT INTO ledger VALUES ({mark}, {mark})", (event.sequence, event.entity)
        )
        if event.payload["amount"] < 0:
            msg = "a negative amount"
            raise ValueError(msg)

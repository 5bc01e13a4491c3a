"""Triggers that make the database itself refuse to change the log.

They stop mistakes and those who may write rows. They do not stop those who may drop a trigger or open
the file; that is what the digest chain is for.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, Table, event

__all__ = ("APPEND_ONLY_NAMES", "APPEND_ONLY_SQL", "refuse_changes")

APPEND_ONLY_SQL: Final[dict[str, tuple[str, ...]]] = {
    "sqlite": (
        """CREATE TRIGGER events_refuse_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the event log is append-only: UPDATE is refused'); END""",
        """CREATE TRIGGER events_refuse_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the event log is append-only: DELETE is refused'); END""",
        # INSERT OR REPLACE deletes without asking the trigger above.
        """CREATE TRIGGER events_refuse_replace BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE sequence = NEW.sequence OR event_id = NEW.event_id)
BEGIN SELECT RAISE(ABORT, 'the event log is append-only: REPLACE is refused'); END""",
    ),
    "postgresql": (
        """CREATE OR REPLACE FUNCTION events_refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the event log is append-only: % is refused', TG_OP; END $$""",
        """CREATE TRIGGER events_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION events_refuse_change()""",
    ),
}
"""Statements by dialect, in order, for `sqlalchemy.Connection.exec_driver_sql`."""
APPEND_ONLY_NAMES: Final = {
    "sqlite": ("events_refuse_update", "events_refuse_delete", "events_refuse_replace"),
    "postgresql": ("events_refuse_change",),
}
"""The triggers that must be there, by dialect."""


def refuse_changes(events: Table) -> None:
    """Have ``create_all`` make the triggers right after the table."""
    event.listen(events, "after_create", _create_triggers)
    event.listen(events, "after_drop", _drop_function)


def _create_triggers(_table: object, connection: Connection, **_options: object) -> None:
    for statement in APPEND_ONLY_SQL[connection.dialect.name]:
        connection.exec_driver_sql(statement)


def _drop_function(_table: object, connection: Connection, **_options: object) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP FUNCTION IF EXISTS events_refuse_change()")

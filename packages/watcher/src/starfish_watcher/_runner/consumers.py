"""What a sink knows of its runners, for operators who do not have the views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starfish_watcher._runner.sqlite_sink import SqliteSink

__all__ = ("consumers_of",)


def consumers_of(path: Path, last_sequence: int | None) -> list[dict[str, Any]]:
    """The runners of a `SqliteSink`, by name, as plain values.

    Args:
        path: Of the sink.
        last_sequence: Of the source, for the lag; ``None`` when it is not known.

    Raises:
        StoreDamagedError: the file is not a sink.
    """
    found: list[dict[str, Any]] = []
    with SqliteSink(path) as sink, sink.reading() as connection:
        connection.execute("BEGIN")
        for (name,) in connection.execute("SELECT name FROM starfish_runner ORDER BY 1").fetchall():
            partitions = connection.execute(
                "SELECT partition_number, sequence, owner, events FROM starfish_runner_position"
                " WHERE runner = ? ORDER BY 1",
                (name,),
            ).fetchall()
            parked = connection.execute(
                "SELECT view_name, sequence, entity, reason, attempts FROM starfish_runner_parked"
                " WHERE runner = ? ORDER BY sequence, view_name",
                (name,),
            ).fetchall()
            reached = min(row[1] for row in partitions)
            of_partition = ("partition", "sequence", "owner", "events")
            of_parked = ("view", "sequence", "entity", "reason", "attempts")
            found.append(
                {
                    "runner": name,
                    "sequence": reached,
                    "lag": None if last_sequence is None else last_sequence - reached,
                    "partitions": [dict(zip(of_partition, row, strict=True)) for row in partitions],
                    "parked": [dict(zip(of_parked, row, strict=True)) for row in parked],
                }
            )
    return found

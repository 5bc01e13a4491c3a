"""Rows of the tables as values of the contract."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from starfish_server.storage._positions import LogState
from starfish_server.storage.changes import Change, ChangeRecord
from starfish_server.storage.values import Match, Metadata, Precondition

__all__ = (
    "METADATA",
    "PART_BYTES",
    "change_of",
    "condition_of",
    "identity_of",
    "metadata_of",
    "place_of",
)

PART_BYTES = 262_144
"""A longer value is kept in parts of this length."""

METADATA = "write_id, size, content_type, hash, written_at, expires_at, generation"
"""The columns that `metadata_of` takes."""

_ABSENT, _MATCH = 1, 2


def metadata_of(row: Sequence[Any]) -> Metadata:
    """The first columns of a row as metadata."""
    return Metadata(
        etag=str(row[0]),
        size=row[1],
        content_type=row[2],
        hash=row[3],
        written_at=row[4],
        expires_at=row[5],
        write_id=row[0],
        generation=row[6],
    )


def condition_of(when: Precondition) -> tuple[int, int | None]:
    """A condition as the number of its kind and the write that it expects."""
    if not isinstance(when, Match):
        return (_ABSENT if when.value == "absent" else 0), None
    text = when.etag
    is_ours = text.isascii() and text.isdigit() and len(text) <= 19 and text == str(int(text))
    return _MATCH, int(text) if is_ours and int(text) < 2**63 else None


# JSON, since a text of PostgreSQL holds no NUL and no lone surrogate, and names may.


def place_of(change: ChangeRecord) -> str:
    """Which document a change is of."""
    return json.dumps([change.collection, dict(change.params), change.namespace])


def identity_of(change: ChangeRecord) -> str | None:
    """Who made a change."""
    return None if change.identity is None else json.dumps(change.identity)


def change_of(row: Sequence[Any], state: LogState) -> Change:
    """A row of the log: sequence, key, place, generation, hash, timestamp, identity, deleted."""
    collection, params, namespace = json.loads(row[2])
    return Change(
        sequence=row[0],
        collection=collection,
        params=params,
        key=row[1],
        generation=row[3],
        hash=row[4],
        timestamp=row[5],
        namespace=namespace,
        identity=None if row[6] is None else json.loads(row[6]),
        position=state.at(row[0]),
        is_deleted=row[7],
    )

"""Which pack holds which object: rows in a SQLite file beside the packs.

Rule: the catalogue is derived. The packs are the truth; a catalogue that is missing, damaged or
behind is made again from them, so no change to it waits for the disk.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from starfish_disk import SqliteFile
from starfish_disk.errors import DamagedError, DiskError
from starfish_mpack_wire.errors import StoreError

__all__ = ("Catalogue", "CommitRow", "ObjectKind", "SnapshotRow")

ObjectKind = Literal["blob", "snapshot", "commit", "chunked"]
"""``chunked`` are the large blobs, which are among the blobs as well."""

APPLICATION_ID = 0x4D504B43
"""``MPKC`` in the header of the file (``PRAGMA application_id``)."""
ID_PREFIX = "sha256:"
BUSY_TIMEOUT_MS = 30_000
IDS_PER_QUERY = 500
"""Below the 999 parameters that the oldest SQLite takes."""
BLOBS_PER_INSERT = 50_000

INSERT_BLOBS = """
INSERT OR IGNORE INTO blobs
WITH RECURSIVE place(at) AS (SELECT 1 UNION ALL SELECT at + 32 FROM place WHERE at + 32 <= length(:digests))
SELECT substr(:digests, at, 32), :pack FROM place
"""
"""One row for each 32 bytes: cut up by SQLite, where a row from here costs three times as much."""

LAYOUTS = (
    (
        "CREATE TABLE packs (pack INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE blobs (id BLOB PRIMARY KEY, pack INTEGER NOT NULL) WITHOUT ROWID",
        (
            "CREATE TABLE snapshots (id BLOB PRIMARY KEY, pack INTEGER NOT NULL, parent BLOB, "
            "chain INTEGER NOT NULL) WITHOUT ROWID"
        ),
        (
            "CREATE TABLE commits (id BLOB PRIMARY KEY, pack INTEGER NOT NULL, "
            "generation INTEGER NOT NULL, snapshot BLOB NOT NULL, parents BLOB NOT NULL) WITHOUT ROWID"
        ),
        "CREATE INDEX commits_by_generation ON commits (generation, id)",
        "CREATE TABLE foreign_commits (foreign_id TEXT PRIMARY KEY, id BLOB NOT NULL) WITHOUT ROWID",
    ),
    ("CREATE TABLE chunked (id BLOB PRIMARY KEY, pack INTEGER NOT NULL) WITHOUT ROWID",),
)
"""Statements of each version, the first one first."""
TABLES: dict[ObjectKind, str] = {
    "blob": "blobs",
    "snapshot": "snapshots",
    "commit": "commits",
    "chunked": "chunked",
}


@dataclass(frozen=True, slots=True)
class CommitRow:
    """Where a commit stands in the graph."""

    commit_id: str
    generation: int
    """One more than the largest of its parents'; 1 without parents."""
    snapshot_id: str
    parent_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """How a snapshot is stored."""

    snapshot_id: str
    parent_snapshot_id: str | None
    chain: int
    """Differences to apply to get it; 0 for a full one."""


def _written_before_there_was_an_id(tables: Collection[str], version: int) -> int | None:
    return 1 if version == 1 and "foreign_commits" in tables else None


def _packed(object_id: str) -> bytes:
    return bytes.fromhex(object_id[len(ID_PREFIX) :])


def _unpacked(data: bytes) -> str:
    return ID_PREFIX + data.hex()


class Catalogue:
    """The rows; safe to use from several threads, one at a time inside.

    Args:
        path: the SQLite file; made when it is missing, made again when it is not a catalogue.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        with self._translated():
            try:
                self._file, self._database = self._open()
            except DamagedError:
                self.discard_files(path)
                self._file, self._database = self._open()

    @staticmethod
    def discard_files(path: Path) -> None:
        """Remove the file and what SQLite keeps beside it."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _open(self) -> tuple[SqliteFile, sqlite3.Connection]:
        file = SqliteFile(
            self._path,
            application_id=APPLICATION_ID,
            layouts=LAYOUTS,
            durability="normal",
            busy_timeout_ms=BUSY_TIMEOUT_MS,
            adopt=_written_before_there_was_an_id,
        )
        database = file.connect()
        database.execute("PRAGMA cache_size = -16000")
        return file, database

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, DiskError) as error:
            reason = error.reason if isinstance(error, DiskError) else str(error)
            raise StoreError(
                f"{self._path}: {reason}; it may be moved away, it is made again from the packs"
            ) from error

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        with self._lock, self._translated():
            return self._database.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Keep other writers out, and make all changes of the block or none."""
        with self._lock, self._translated(), self._file.transaction(self._database):
            yield

    # -- packs ---------------------------------------------------------------------------------

    def pack_names(self) -> set[str]:
        """The packs that have rows."""
        return {name for (name,) in self._rows("SELECT name FROM packs")}

    def add_pack(
        self,
        name: str,
        *,
        commits: Iterable[CommitRow],
        snapshots: Iterable[SnapshotRow],
        blob_ids: Sequence[str],
        chunked_ids: Iterable[str] = (),
    ) -> None:
        """Add the rows of a pack; an object that another pack holds too stays with that one.

        Call it inside `transaction`.
        """
        with self._lock, self._translated():
            execute, many = self._database.execute, self._database.executemany
            if execute("SELECT 1 FROM packs WHERE name = ?", (name,)).fetchone():
                return
            pack = execute("INSERT INTO packs (name) VALUES (?)", (name,)).lastrowid
            for start in range(0, len(blob_ids), BLOBS_PER_INSERT):
                some = blob_ids[start : start + BLOBS_PER_INSERT]
                digests = bytes.fromhex("".join([blob[len(ID_PREFIX) :] for blob in some]))
                execute(INSERT_BLOBS, {"digests": digests, "pack": pack})
            many(
                "INSERT OR IGNORE INTO chunked VALUES (?, ?)",
                ((_packed(each), pack) for each in chunked_ids),
            )
            many(
                "INSERT OR IGNORE INTO snapshots VALUES (?, ?, ?, ?)",
                (
                    (
                        _packed(row.snapshot_id),
                        pack,
                        _packed(row.parent_snapshot_id) if row.parent_snapshot_id else None,
                        row.chain,
                    )
                    for row in snapshots
                ),
            )
            many(
                "INSERT OR IGNORE INTO commits VALUES (?, ?, ?, ?, ?)",
                (
                    (
                        _packed(row.commit_id),
                        pack,
                        row.generation,
                        _packed(row.snapshot_id),
                        b"".join(map(_packed, row.parent_ids)),
                    )
                    for row in commits
                ),
            )

    def clear(self) -> None:
        """Forget all packs; call it inside `transaction`."""
        with self._lock, self._translated():
            for table in ("packs", *TABLES.values()):
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - names from this line

    # -- objects -------------------------------------------------------------------------------

    def pack_of(self, kind: ObjectKind, object_id: str) -> str | None:
        """The name of the pack that holds an object."""
        rows = self._rows(
            f"SELECT name FROM {TABLES[kind]} JOIN packs USING (pack) WHERE id = ?",  # noqa: S608 - a table of ours
            (_packed(object_id),),
        )
        return str(rows[0][0]) if rows else None

    def packs_of(self, kind: ObjectKind, object_ids: Collection[str]) -> dict[str, str]:
        """The name of the pack that holds each object, for those that some pack holds."""
        found: dict[str, str] = {}
        wanted = [_packed(object_id) for object_id in object_ids]
        for start in range(0, len(wanted), IDS_PER_QUERY):
            part = wanted[start : start + IDS_PER_QUERY]
            marks = ",".join("?" * len(part))
            rows = self._rows(
                f"SELECT id, name FROM {TABLES[kind]} JOIN packs USING (pack) WHERE id IN ({marks})",  # noqa: S608 - marks and a table of ours
                part,
            )
            found.update((_unpacked(row[0]), str(row[1])) for row in rows)
        return found

    def known(self, kind: ObjectKind, object_ids: Collection[str]) -> set[str]:
        """Those of the ids that some pack holds."""
        found: set[str] = set()
        if not self._rows(f"SELECT 1 FROM {TABLES[kind]} LIMIT 1"):  # noqa: S608 - a table of ours
            return found
        wanted = [_packed(object_id) for object_id in object_ids]
        for start in range(0, len(wanted), IDS_PER_QUERY):
            part = wanted[start : start + IDS_PER_QUERY]
            marks = ",".join("?" * len(part))
            rows = self._rows(f"SELECT id FROM {TABLES[kind]} WHERE id IN ({marks})", part)  # noqa: S608 - marks and a table of ours
            found.update(_unpacked(row[0]) for row in rows)
        return found

    def count(self, kind: ObjectKind) -> int:
        """How many objects of a kind there are."""
        return int(self._rows(f"SELECT count(*) FROM {TABLES[kind]}")[0][0])  # noqa: S608 - a table of ours

    def ids(self, kind: ObjectKind) -> list[str]:
        """The ids of all objects of a kind, sorted."""
        return [_unpacked(row[0]) for row in self._rows(f"SELECT id FROM {TABLES[kind]}")]  # noqa: S608 - a table of ours

    def commits(self, commit_ids: Collection[str]) -> dict[str, CommitRow]:
        """The rows of those commits that are there."""
        found: dict[str, CommitRow] = {}
        wanted = [_packed(commit_id) for commit_id in commit_ids]
        for start in range(0, len(wanted), IDS_PER_QUERY):
            part = wanted[start : start + IDS_PER_QUERY]
            marks = ",".join("?" * len(part))
            found.update(self._commits(f"WHERE id IN ({marks})", part))
        return found

    def commits_below(self, generation: int, limit: int) -> dict[str, CommitRow]:
        """The rows of the first commits below a generation, highest generations first."""
        return self._commits(
            "WHERE generation < ? ORDER BY generation DESC, id LIMIT ?", (generation, limit)
        )

    def all_commits(self) -> dict[str, CommitRow]:
        """The rows of all commits, lowest generations first: parents before children."""
        return self._commits("ORDER BY generation, id", ())

    def _commits(self, clause: str, parameters: Sequence[object]) -> dict[str, CommitRow]:
        found: dict[str, CommitRow] = {}
        for commit, generation, snapshot, parents in self._rows(
            f"SELECT id, generation, snapshot, parents FROM commits {clause}",  # noqa: S608 - clauses of ours
            parameters,
        ):
            commit_id = _unpacked(commit)
            parent_ids = tuple(
                _unpacked(parents[at : at + 32]) for at in range(0, len(parents), 32)
            )
            found[commit_id] = CommitRow(commit_id, generation, _unpacked(snapshot), parent_ids)
        return found

    def snapshot(self, snapshot_id: str) -> SnapshotRow | None:
        """How a snapshot is stored; ``None`` when it is not there."""
        rows = self._rows(
            "SELECT parent, chain FROM snapshots WHERE id = ?", (_packed(snapshot_id),)
        )
        if not rows:
            return None
        parent, chain = rows[0]
        return SnapshotRow(snapshot_id, _unpacked(parent) if parent else None, chain)

    def snapshot_chains(self, snapshot_ids: Collection[str]) -> set[str]:
        """These snapshots, as far as they are there, and all that they are differences to."""
        found: set[str] = set()
        waiting = {_packed(each) for each in snapshot_ids}
        seen: set[bytes] = set()
        while waiting:
            part = list(waiting)[:IDS_PER_QUERY]
            waiting.difference_update(part)
            seen.update(part)
            marks = ",".join("?" * len(part))
            rows = self._rows(f"SELECT id, parent FROM snapshots WHERE id IN ({marks})", part)  # noqa: S608 - marks
            found.update(_unpacked(row[0]) for row in rows)
            waiting.update(row[1] for row in rows if row[1] is not None and row[1] not in seen)
        return found

    # -- other systems -------------------------------------------------------------------------

    def foreign_commits(self) -> dict[str, str]:
        """What another system's ids became here, as far as it is remembered."""
        rows = self._rows("SELECT foreign_id, id FROM foreign_commits")
        return {foreign: _unpacked(own) for foreign, own in rows}

    def remember_foreign(self, commits: Iterable[tuple[str, str]]) -> None:
        """Remember what another system's ids became here."""
        with self.transaction():
            self._database.executemany(
                "INSERT OR REPLACE INTO foreign_commits VALUES (?, ?)",
                ((foreign, _packed(own)) for foreign, own in commits),
            )

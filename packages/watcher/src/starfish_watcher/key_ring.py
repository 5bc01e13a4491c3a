"""A key for each entity, so that destroying one erases its payloads wherever they were copied.

Payloads are sealed with AES-256-SIV (RFC 5297) under the key of their entity, which the ciphertext
is bound to. Equal payloads of an entity give equal bytes, so that idempotency keys go on working;
who reads the file sees which events of one entity are equal, and nothing else of them.

Rule 1: a key is on disk before the first event that it seals. Rule 2: when `KeyRing.destroy`
returns, the key is gone from the file, its log and its free pages; other processes that have the
ring open notice at their next use of it.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from starfish_disk.sqlite_file import SqliteFile
from starfish_watcher._fork_guard import ForkGuard
from starfish_watcher._model.coordinate import check_name
from starfish_watcher._model.sealing import KEY_ID_BYTES, close_ring, open_ring
from starfish_watcher.errors import PayloadErasedError, StoreClosed
from starfish_watcher.log.sqlite._file import translated

__all__ = ("KeyRing",)

_APPLICATION_ID: Final = 0x53464B52
_LAYOUT: Final = (
    "CREATE TABLE ring (id INTEGER PRIMARY KEY CHECK (id = 1), ring_id BLOB NOT NULL) STRICT",
    "INSERT INTO ring VALUES (1, randomblob(16))",
    """
    CREATE TABLE keys (
        entity TEXT PRIMARY KEY, key_id BLOB NOT NULL UNIQUE, key BLOB NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)
_KEY_BYTES: Final = 64
_MAX_KNOWN: Final = 4096
"""Keys that are kept in memory, of each direction."""


class KeyRing:
    """A SQLite file of keys, mode 0600; several processes may open it.

    Keep it apart from the store and its backups: a backup of this file brings destroyed keys back.

    Raises:
        StoreDamagedError: the file is something else.
        StoreUnavailableError: it cannot be opened or written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, KeyRing(f"{folder}/keys.db") as ring:
        ...     ring.destroy("account:1")
        False
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._location = str(Path(path).absolute())
        self._guard = ForkGuard()
        self._lock = threading.Lock()
        self._file = SqliteFile(path, application_id=_APPLICATION_ID, layouts=(_LAYOUT,))
        self._closed = False
        with translated(self._location):
            self._connection = self._file.connect()
            try:
                self._connection.execute("PRAGMA secure_delete = ON")
                (ring_id,) = self._connection.execute("SELECT ring_id FROM ring").fetchone()
            except BaseException:
                self._connection.close()
                raise
        self._ring_id: bytes = ring_id
        self._by_entity: dict[str, tuple[bytes, AESSIV]] = {}
        self._by_id: dict[bytes, tuple[str, AESSIV]] = {}
        self._version = -1
        self._opener = self._open
        open_ring(ring_id, self._opener)

    def seal(self, entity: str, payload: bytes) -> bytes:
        """Encrypt a payload of ``entity``; its key is made, and on disk, when there is none.

        Raises:
            StoreUnavailableError: the file cannot be read or written.
            StoreClosed: the ring is closed.
        """
        with self._using() as connection:
            if (known := self._by_entity.get(entity)) is None:
                known = self._key_of(connection, entity)
                self._remember(entity, *known)
        key_id, cipher = known
        return self._ring_id + key_id + cipher.encrypt(payload, [entity.encode()])

    def entities(self) -> list[str]:
        """The entities that have a key, in order.

        Raises:
            StoreUnavailableError: the file cannot be read.
            StoreClosed: the ring is closed.
        """
        with self._using() as connection:
            return [row[0] for row in connection.execute("SELECT entity FROM keys ORDER BY entity")]

    def destroy(self, entity: str) -> bool:
        """Destroy the key of ``entity``; whether there was one.

        Raises:
            StoreUnavailableError: the file cannot be written; the key is there.
            StoreClosed: the ring is closed.
        """
        check_name("entity", entity)
        with self._using() as connection:
            with self._file.transaction(connection):
                found = connection.execute("DELETE FROM keys WHERE entity = ?", (entity,)).rowcount
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self._by_entity.clear()
            self._by_id.clear()
        return bool(found)

    def close(self) -> None:
        """Release the file; payloads that it sealed cannot be read any more. May be called twice."""
        if self._guard.is_inherited:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            close_ring(self._ring_id, self._opener)
            self._connection.close()
            self._by_entity.clear()
            self._by_id.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _using(self) -> Generator[sqlite3.Connection]:
        self._guard.check()
        with self._lock, translated(self._location):
            if self._closed:
                msg = f"key ring {self._location} was closed"
                raise StoreClosed(msg)
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                # Another process may have destroyed a key.
                self._by_entity.clear()
                self._by_id.clear()
                self._version = version
            yield self._connection

    def _key_of(self, connection: sqlite3.Connection, entity: str) -> tuple[bytes, AESSIV]:
        query = "SELECT key_id, key FROM keys WHERE entity = ?"
        row = connection.execute(query, (entity,)).fetchone()
        if row is None:
            with self._file.transaction(connection):
                connection.execute(
                    "INSERT OR IGNORE INTO keys VALUES (?, ?, ?)",
                    (entity, secrets.token_bytes(KEY_ID_BYTES), secrets.token_bytes(_KEY_BYTES)),
                )
                row = connection.execute(query, (entity,)).fetchone()
        return row[0], AESSIV(row[1])

    def _remember(self, entity: str, key_id: bytes, cipher: AESSIV) -> None:
        if len(self._by_entity) >= _MAX_KNOWN:
            self._by_entity.clear()
            self._by_id.clear()
        self._by_entity[entity] = key_id, cipher
        self._by_id[key_id] = entity, cipher

    def _open(self, key_id: bytes, encrypted: bytes) -> bytes:
        with self._using() as connection:
            if (known := self._by_id.get(key_id)) is None:
                row = connection.execute(
                    "SELECT entity, key FROM keys WHERE key_id = ?", (key_id,)
                ).fetchone()
                if row is None:
                    raise PayloadErasedError("its key was destroyed")
                known = row[0], AESSIV(row[1])
                self._remember(row[0], key_id, known[1])
        entity, cipher = known
        try:
            return cipher.decrypt(encrypted, [entity.encode()])
        except InvalidTag as error:
            raise PayloadErasedError("it does not fit the key of its entity") from error

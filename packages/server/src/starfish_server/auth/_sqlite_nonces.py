"""Nonces of signed requests in a SQLite file: shared by the processes of one machine, kept over restarts.

A commit is not synced, since a sync would cost more than all the rest of a request. The end of a
process loses nothing. After a start of the machine the last commits may be missing, so requests that
were signed before the file was first opened then are refused.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from typing_extensions import override

from starfish_disk import BatchThread, GroupCommit, SqliteFile
from starfish_disk.errors import DiskError
from starfish_http.callers.nonces import (
    NONCE_WINDOW_MS,
    NonceLimits,
    NonceStore,
    NonceVerdict,
    nonce_digest,
)
from starfish_server.errors import StoreUnavailableError

__all__ = ("SqliteNonces",)

_APPLICATION_ID = 0x53464E4E
"""``SFNN`` in the header of the file."""
_LAYOUTS = (
    (
        """CREATE TABLE nonce (
            digest BLOB PRIMARY KEY,
            signer BLOB NOT NULL,
            is_known INTEGER NOT NULL,
            expires INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX nonce_by_expiry ON nonce (expires)",
        "CREATE TABLE tally (who BLOB PRIMARY KEY, nonces INTEGER NOT NULL) WITHOUT ROWID",
        "CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ),
)
_ALL, _STRANGERS = b"all", b"strangers"
_EXPIRED_AT_ONCE = 64
"""More than one request adds, so that the expired ones become fewer with each."""
_TICK_S = 5.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SqliteNonces(NonceStore):
    """Nonces in one file.

    Args:
        path: of the file; it and the folders above it are created when missing.
        limits: how many are kept.
        window_ms: how long each is kept; one that expires now still counts.

    Examples:
        >>> import asyncio, tempfile
        >>> async def main(folder: str) -> list[str]:
        ...     nonces = SqliteNonces(f"{folder}/nonces.sqlite")
        ...     now = 1_900_000_000_000
        ...     told = [
        ...         await nonces.take("key", "nonce", now, signed_ms=now, is_known=True)
        ...         for _ in range(2)
        ...     ]
        ...     await nonces.close()
        ...     return told
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asyncio.run(main(folder))
        ['fresh', 'used']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limits: NonceLimits | None = None,
        window_ms: int = NONCE_WINDOW_MS,
    ) -> None:
        self._path = Path(path)
        self._limits = limits or NonceLimits()
        self._window_ms = window_ms
        self._thread: BatchThread[sqlite3.Connection] | None = None
        self._pid = 0
        self._since_ms: int | None = None

    @override
    async def take(
        self, signer: str, nonce: str, now_ms: int, *, signed_ms: int, is_known: bool
    ) -> NonceVerdict:
        """Use a nonce up; as `NonceStore.take`.

        Raises:
            StoreUnavailableError: the file cannot be written.
        """
        thread = self._opened()
        since_ms = self._since_ms
        if since_ms is None:
            since_ms = await thread.submit(partial(_first_opened, now_ms=now_ms))
            self._since_ms = since_ms
        if signed_ms < since_ms:
            return "used"
        digest = nonce_digest(signer, nonce)
        who = nonce_digest(signer, "")
        return await thread.submit(
            partial(self._take, digest=digest, signer=who, now_ms=now_ms, is_known=is_known)
        )

    async def close(self) -> None:
        """Close the file; the next call opens it again."""
        thread, self._thread = self._thread, None
        if thread is not None and self._pid == os.getpid():
            await thread.stop()

    def _opened(self) -> BatchThread[sqlite3.Connection]:
        if self._thread is None or self._pid != os.getpid():  # threads do not survive a fork
            file = SqliteFile(
                self._path, application_id=_APPLICATION_ID, layouts=_LAYOUTS, durability="normal"
            )
            worker = GroupCommit(file, as_error=_as_error)
            self._thread = BatchThread("starfish nonces", worker, tick_s=_TICK_S)
            self._pid = os.getpid()
            self._since_ms = None
        return self._thread

    def _take(
        self,
        connection: sqlite3.Connection,
        *,
        digest: bytes,
        signer: bytes,
        now_ms: int,
        is_known: bool,
    ) -> NonceVerdict:
        _expire(connection, now_ms)
        found = connection.execute(
            "SELECT expires FROM nonce WHERE digest = ?", (digest,)
        ).fetchone()
        if found is not None:
            if found[0] >= now_ms:
                return "used"
            _remove(connection, [digest])
        limits = self._limits
        tallies: dict[bytes, int] = dict(
            connection.execute(
                "SELECT who, nonces FROM tally WHERE who IN (?, ?, ?)", (_ALL, _STRANGERS, signer)
            ).fetchall()
        )
        mine = limits.of_a_signer if is_known else limits.of_a_stranger
        if (
            tallies.get(_ALL, 0) >= limits.total
            or tallies.get(signer, 0) >= mine
            or (not is_known and tallies.get(_STRANGERS, 0) >= limits.of_strangers)
        ):
            return "full"
        connection.execute(
            "INSERT INTO nonce (digest, signer, is_known, expires) VALUES (?, ?, ?, ?)",
            (digest, signer, is_known, now_ms + self._window_ms),
        )
        _count(connection, signer, is_known=is_known)
        return "fresh"


def _as_error(error: DiskError) -> Exception:
    return StoreUnavailableError(str(error.path), error.reason)


def _count(connection: sqlite3.Connection, signer: bytes, *, is_known: bool) -> None:
    connection.executemany(
        "INSERT INTO tally (who, nonces) VALUES (?, 1) "
        "ON CONFLICT (who) DO UPDATE SET nonces = nonces + 1",
        [(_ALL,), (signer,), *([] if is_known else [(_STRANGERS,)])],
    )


def _expire(connection: sqlite3.Connection, now_ms: int) -> None:
    expired = connection.execute(
        "SELECT digest FROM nonce WHERE expires < ? ORDER BY expires LIMIT ?",
        (now_ms, _EXPIRED_AT_ONCE),
    ).fetchall()
    _remove(connection, [row[0] for row in expired])


def _remove(connection: sqlite3.Connection, digests: Sequence[bytes]) -> None:
    for digest in digests:
        signer, is_known = connection.execute(
            "DELETE FROM nonce WHERE digest = ? RETURNING signer, is_known", (digest,)
        ).fetchone()
        who = [(_ALL,), (signer,), *([] if is_known else [(_STRANGERS,)])]
        connection.executemany("UPDATE tally SET nonces = nonces - 1 WHERE who = ?", who)
        connection.execute("DELETE FROM tally WHERE who = ? AND nonces <= 0", (signer,))


def _first_opened(connection: sqlite3.Connection, *, now_ms: int) -> int:
    """When the file was first opened since the machine started; 0 for a new file."""
    facts: dict[str, str] = dict(connection.execute("SELECT name, value FROM fact").fetchall())
    boot = _boot()
    if facts.get("boot") == boot:
        return int(facts["since"])
    since = now_ms if "boot" in facts else 0
    connection.executemany(
        "INSERT OR REPLACE INTO fact (name, value) VALUES (?, ?)",
        [("boot", boot), ("since", str(since))],
    )
    return since


def _boot() -> str:
    """Differs after each start of the machine; where it cannot be told, with each process."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return f"{os.getpid()} {time.monotonic_ns()}"

"""Connections to PostgreSQL for one event loop, and the driver's errors in the words of this package.

Rule 1: the driver's errors stop here. Rule 2: a read whose connection is lost is repeated once, on
a new connection; a write never is.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from starfish_server.errors import StoreUnavailableError
from starfish_server.storage._postgres._layout import LayoutError, is_current, migrate

try:
    import asyncpg  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError(
        "starfish_server.storage.postgres needs the extra postgres: "
        'pip install --find-links dist "starfish-server[postgres]"'
    ) from error

__all__ = ("Address", "Connections", "Row", "is_lost", "of_one_call")

Row: TypeAlias = Sequence[Any]

_driver: Any = asyncpg
_CONNECT_S = 10.0
_CALL_S = 30.0
"""A statement that takes longer is given up: a connection that stalls must not stall its callers."""
_KEEPALIVE = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""The database notices within half a minute that a server has vanished."""


@dataclass(frozen=True, slots=True)
class Address:
    """Which database and schema, how many connections, and how long a write waits for another."""

    dsn: str
    schema: str
    max_connections: int
    busy_timeout_ms: int

    @property
    def location(self) -> str:
        """Names the database in errors; holds no secret."""
        parts = urlsplit(self.dsn)
        host = parts.netloc.rpartition("@")[2]
        return f"postgresql://{host}{parts.path}, schema {self.schema!r}"

    @property
    def lock(self) -> int:
        """Number of the advisory lock under which one server writes at a time."""
        digest = hashlib.sha256(f"starfish-server {self.schema}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    @property
    def channel(self) -> str:
        """Where changes are notified."""
        return f"{self.schema}.changes"


def is_lost(error: BaseException) -> bool:
    """Whether a connection broke, so that nothing is known of the statement it was used for."""
    if isinstance(error, _driver.PostgresError):
        # 08: connections; 57P: the server ends or starts; 40003: completion unknown.
        state = str(getattr(error, "sqlstate", ""))
        return state.startswith(("08", "57P")) or state == "40003"
    if isinstance(error, _driver.InterfaceError):
        return not isinstance(error, ValueError)  # which a value that has no encoding is
    # A time-out is an `OSError`; the driver trips over connections that break in odd moments.
    return isinstance(error, (OSError, _driver.InternalClientError))


def of_one_call(error: BaseException) -> bool:
    """Whether the values of one call were refused, so that its neighbours may do without it."""
    state = str(getattr(error, "sqlstate", "") or "")
    return isinstance(error, (ValueError, OverflowError)) or state.startswith(("21", "22", "54"))


class Connections:
    """A bounded pool for reads, a connection that writes, and one that listens; one event loop's.

    The pool keeps one connection less for each of the other two.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._pool: Any = None
        self._opening = asyncio.Lock()

    def unavailable(self, error: BaseException) -> StoreUnavailableError:
        """Make the error of this package."""
        if isinstance(error, TimeoutError):
            reason = "it did not answer in time"
        elif getattr(error, "sqlstate", None) == "55P03":
            reason = (
                "another server has held the lock of writers for "
                f"{self._address.busy_timeout_ms / 1000:g} s"
            )
        else:  # the first line holds no row, the details may
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return StoreUnavailableError(self._address.location, reason)

    async def connect(self) -> Any:
        """Open a connection apart from the pool, of a database that has the tables.

        Raises:
            StoreUnavailableError: the database does not let us in.
        """
        await self._pooled()
        try:
            connection = await _driver.connect(self._address.dsn, **self._options())
        except Exception as error:
            raise self._refusal(error) from error
        try:
            if connection.get_server_version() >= (17, 0):
                # A statement whose end is stuck on the way must not keep the lock.
                await connection.execute("SET transaction_timeout = '60s'")
        except BaseException as error:
            connection.terminate()
            if isinstance(error, Exception):
                raise self._refusal(error) from error
            raise
        return connection

    async def read(self, statement: str, *values: object) -> list[Row]:
        """Run a statement that may be run again.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        pool = await self._pooled()
        try:
            return await self._fetch(pool, statement, *values)
        except Exception as error:
            if not is_lost(error) or isinstance(error, TimeoutError):
                raise self._refusal(error) from error
        try:
            return await self._fetch(pool, statement, *values)
        except Exception as error:
            raise self._refusal(error) from error

    async def _fetch(self, pool: Any, statement: str, *values: object) -> list[Row]:
        async with pool.acquire(timeout=_CONNECT_S) as connection:
            found: list[Row] = await connection.fetch(statement, *values)
        return found

    async def close(self) -> None:
        """Close the pool; the next call opens another one."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    await pool.close()
            except Exception:  # noqa: BLE001  some of them are broken, and gone either way
                pool.terminate()

    async def _pooled(self) -> Any:
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await self._open()
        return self._pool

    async def _open(self) -> Any:
        try:
            connection = await _driver.connect(self._address.dsn, **self._options())
            try:
                schema = self._address.schema
                if not await is_current(connection.fetch, schema):
                    async with connection.transaction():
                        await migrate(connection.fetch, schema, self._address.lock)
            finally:
                await connection.close(timeout=_CONNECT_S)
            return await _driver.create_pool(
                self._address.dsn,
                min_size=0,
                max_size=max(1, self._address.max_connections - 2),
                reset=_reset_nothing,
                **self._options(),
            )
        except Exception as error:
            raise self._refusal(error) from error

    def _options(self) -> dict[str, Any]:
        return {
            "timeout": _CONNECT_S,
            "command_timeout": max(_CALL_S, self._address.busy_timeout_ms / 1000 + 5),
            "server_settings": {
                "application_name": "starfish-server",
                "lock_timeout": str(self._address.busy_timeout_ms),
                **_KEEPALIVE,
            },
        }

    def _refusal(self, error: Exception) -> Exception:
        if isinstance(error, LayoutError):
            return StoreUnavailableError(self._address.location, str(error))
        ours = (
            _driver.PostgresError,
            _driver.InterfaceError,
            _driver.InternalClientError,
            OSError,
        )
        is_ours = isinstance(error, ours) and not isinstance(error, ValueError)
        return self.unavailable(error) if is_ours else error


async def _reset_nothing(_connection: object) -> None:
    """Nothing here changes a session, so nothing need be asked after each statement."""

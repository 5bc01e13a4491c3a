"""Where the log ends, as far as this process knows, and a way to wait for more.

A commit of this process is known at once. PostgreSQL tells of others by NOTIFY; SQLite is asked, a
few dozen times a second, and only while somebody waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from starfish_artifact_registry.db._database import Database, translated_errors
from starfish_artifact_registry.db.schema import events
from starfish_artifact_registry.errors import DatabaseUnavailableError

__all__ = ("LogHead", "notify")

_CHANNEL: Final = "'starfish_registry_' || 'events'::regclass::oid::text"
_NOTIFY: Final = text(f"SELECT pg_notify({_CHANNEL}, :sequence)")
_LOOK_ANYWAY_S: Final = 30.0
"""A waiter looks for itself after that long, whatever it was told or not told."""


async def notify(connection: AsyncConnection, sequence: int) -> None:
    """Have PostgreSQL tell the listeners of all processes, once the commit is visible."""
    if connection.dialect.name == "postgresql":
        await connection.execute(_NOTIFY, {"sequence": str(sequence)})


class LogHead:
    """The last known sequence of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sequence = 0
        self._changed = asyncio.Event()
        self._intervals: list[float] = []
        self._follower: asyncio.Task[None] | None = None
        self._following = asyncio.Event()
        self._failure: Exception | None = None

    def advance(self, sequence: int) -> None:
        """Learn that the log reaches at least this far."""
        if sequence > self._sequence:
            self._sequence = sequence
            self.wake()

    async def follow(self, poll_interval_seconds: float) -> None:
        """Learn of the commits of other processes, too, until `unfollow` with the same interval.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not let us listen.
        """
        self._intervals.append(poll_interval_seconds)
        try:
            if self._follower is None or self._follower.done():
                self._failure = None
                self._following = asyncio.Event()
                self._follower = asyncio.create_task(self._learn())
            await self._following.wait()
            self._raise_failure()
        except BaseException:
            self.unfollow(poll_interval_seconds)
            raise

    def unfollow(self, poll_interval_seconds: float) -> asyncio.Task[None] | None:
        """End what `follow` began; for the last reader, the task that is ending now."""
        self._intervals.remove(poll_interval_seconds)
        if self._intervals or self._follower is None:
            return None
        follower, self._follower = self._follower, None
        follower.cancel()
        return follower

    @asynccontextmanager
    async def followed(self, poll_interval_seconds: float) -> AsyncGenerator[None]:
        """`follow` as long as this lasts; then no connection is left."""
        await self.follow(poll_interval_seconds)
        try:
            yield
        finally:
            ending = self.unfollow(poll_interval_seconds)
            if ending is not None:
                await asyncio.wait([ending])

    async def beyond(self, sequence: int, timeout: float | None = None) -> None:
        """Wait until the log reaches further than this, or the time is up, in seconds.

        May return early: look, and wait again.

        Raises:
            DatabaseUnavailableError: the database is gone.
        """
        if self._sequence > sequence:
            return
        self._raise_failure()
        longest = _LOOK_ANYWAY_S if timeout is None else min(timeout, _LOOK_ANYWAY_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), longest)

    def wake(self) -> None:
        """Have everybody who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise DatabaseUnavailableError(f"the log cannot be followed: {self._failure}") from (
                self._failure
            )

    async def _learn(self) -> None:
        try:
            if self._database.dialect == "postgresql":
                while True:
                    await self._listen()
            await self._poll()
        except Exception as error:  # noqa: BLE001 - whatever it is, the readers get it
            self._failure = error
        finally:
            self._following.set()
            self.wake()

    async def _poll(self) -> None:
        self._following.set()
        while True:
            # Cancelled in the middle, it would cost the connection, and so a database in memory.
            looking = asyncio.create_task(self._look())
            try:
                await asyncio.shield(looking)
            except asyncio.CancelledError:
                await asyncio.wait([looking])
                raise
            await asyncio.sleep(min(self._intervals, default=0.0))

    async def _look(self) -> None:
        async with self._database.read() as connection:
            newest = await connection.execute(select(func.max(events.c.sequence)))
        self.advance(newest.scalar() or 0)

    async def _listen(self) -> None:
        """Until the connection is lost."""
        lost = asyncio.Event()
        with translated_errors():
            async with self._database.engine.connect() as connection:
                driver: Any = (await connection.get_raw_connection()).driver_connection
                # Not one of the pool's any more: it is kept as long as there are readers.
                await connection.run_sync(lambda own: own.detach())

                def lose(_connection: object) -> None:
                    lost.set()

                driver.add_termination_listener(lose)
                channel = await driver.fetchval(f"SELECT {_CHANNEL}")
                await driver.add_listener(channel, self._hear)
                self.advance(await driver.fetchval("SELECT coalesce(max(sequence), 0) FROM events"))
                self._following.set()
                await lost.wait()

    def _hear(self, _connection: object, _process: int, _channel: str, payload: str) -> None:
        self.advance(int(payload))

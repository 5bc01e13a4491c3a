"""Group commit for PostgreSQL: the calls that wait go in one statement, which is one transaction.

Rule 1: a call is told of success after the commit. Rule 2: when the connection is lost after the
statement was sent, nobody knows whether it was done: every call of the batch is told so. Rule 3: a
stamp of the change log belongs to one connection, so the changes after a fail-over or a restore have
another label than the ones that were lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from starfish_protocol.clock import Clock
from starfish_server.storage._positions import new_stamp
from starfish_server.storage._postgres._connections import (
    Address,
    Connections,
    Row,
    is_lost,
    of_one_call,
)
from starfish_server.storage.errors import OutcomeUnknownError

__all__ = ("DONE", "IS_DUE", "NOT_TRIED", "REFUSED", "UPLOAD_GONE", "GroupWriter", "StepRow")

REFUSED, DONE, UPLOAD_GONE, NOT_TRIED = 0, 1, 3, 4
"""Outcomes of a step; 2 is a delete of a key that had no value."""
IS_DUE = 3
"""The condition of expiry: there is a value, and its time is over."""

_MAX_STEPS = 256
_MAX_BYTES = 8 * 2**20
"""Bounds of a batch: one message, held in memory by both sides, and the lock for as long."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """A write or a delete as the function of the database takes it."""

    key: str
    is_delete: bool
    condition: int
    expected: int | None
    write_id: int | None = None
    written_at: int | None = None
    expires_at: int | None = None
    size: int | None = None
    hash: str | None = None
    content_type: str | None = None
    upload: int | None = None
    value: bytes | None = None
    place: str | None = None
    change_hash: str | None = None
    timestamp: int | None = None
    identity: str | None = None


_FIELDS = tuple(field.name for field in fields(StepRow))


@dataclass(slots=True)
class _Call:
    steps: Sequence[StepRow]
    size: int
    settled: asyncio.Future[list[Row]]


class GroupWriter:
    """Writes of one event loop.

    Args:
        connections: of the same event loop.
        address: of the database.
        clock: tells whether a value has expired.
    """

    def __init__(self, connections: Connections, address: Address, clock: Clock) -> None:
        self._connections = connections
        self._address = address
        self._clock = clock
        self._waiting: deque[_Call] = deque()
        self._task: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._stamp = ""
        places = ", ".join(f"${number}" for number in range(1, 6 + len(_FIELDS)))
        self._statement = f"SELECT * FROM {address.schema}.write_1({places})"  # noqa: S608  checked

    def submit(self, steps: Sequence[StepRow]) -> asyncio.Future[list[Row]]:
        """Do steps together or not at all; a row an outcome, when it is durable."""
        settled: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()
        size = sum(len(step.value or b"") for step in steps)
        self._waiting.append(_Call(steps, size, settled))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="starfish writes")
        return settled

    async def close(self) -> None:
        """Finish the accepted writes, then let go of the connection."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
        await self._disconnect()

    async def _run(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft()]
            count, size = len(batch[0].steps), batch[0].size
            while self._waiting:
                count += len(self._waiting[0].steps)
                size += self._waiting[0].size
                if count > _MAX_STEPS or size > _MAX_BYTES:
                    break
                batch.append(self._waiting.popleft())
            try:
                await self._commit(batch)
            except BaseException as error:
                for call in batch:
                    _fail(call, error)
                if not isinstance(error, Exception):
                    raise

    async def _commit(self, batch: Sequence[_Call]) -> None:
        """Do a batch and settle its calls."""
        try:
            connection = await self._connected()
        except Exception as error:  # noqa: BLE001  nothing was sent; each caller hears of it
            for call in batch:
                _fail(call, error)
            return
        try:
            rows = await connection.fetch(self._statement, *self._arguments(batch))
        except Exception as error:  # noqa: BLE001  each caller hears of it
            if is_lost(error):
                await self._disconnect()
                self._report_unknown(batch, error)
            elif len(batch) > 1 and of_one_call(error):
                for call in batch:
                    await self._commit([call])
            else:
                refusal = error if of_one_call(error) else self._connections.unavailable(error)
                for call in batch:
                    _fail(call, refusal)
            return
        position = 0
        for call in batch:
            end = position + len(call.steps)
            if not call.settled.done():
                call.settled.set_result(rows[position:end])
            position = end

    def _arguments(self, batch: Sequence[_Call]) -> list[object]:
        steps = [step for call in batch for step in call.steps]
        counts = [
            len(call.steps) if number == 0 else 0
            for call in batch
            for number in range(len(call.steps))
        ]
        columns = [[getattr(step, name) for step in steps] for name in _FIELDS]
        now = self._clock.now_ms()
        return [self._stamp, self._address.channel, now, self._address.lock, counts, *columns]

    def _report_unknown(self, batch: Sequence[_Call], error: Exception) -> None:
        reason = self._connections.unavailable(error).reason
        for call in batch:
            first = call.steps[0]
            _fail(call, OutcomeUnknownError(first.key, first.write_id or 0, reason))

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connections.connect()
            self._stamp = new_stamp()
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=1)
            except Exception:  # noqa: BLE001  it is broken
                connection.terminate()


def _fail(call: _Call, error: BaseException) -> None:
    if not call.settled.done():
        call.settled.set_exception(error)

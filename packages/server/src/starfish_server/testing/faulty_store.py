"""A store that lets its callers down on request.

It stands around a real one, so that calls without a planned fault go right.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from typing_extensions import override

from starfish_server.errors import StoreUnavailableError
from starfish_server.storage.base import AbstractObjectStore, StoreContext
from starfish_server.storage.changes import ChangeLog

__all__ = ("FaultyStore", "StoreCall")

T = TypeVar("T")

StoreCall: TypeAlias = Literal[
    "get_string",
    "get_with_etag",
    "get_bytes",
    "put",
    "put_bytes",
    "put_if_match",
    "list_keys",
    "delete",
    "delete_many",
]
"""A call of a store, by its name."""


@dataclass(slots=True)
class _Failure:
    times: int
    error: Exception
    after: bool


class FaultyStore(AbstractObjectStore):
    """A store whose calls fail, conflict or stall when a test says so.

    Args:
        store: does the calls without a planned fault.

    Attributes:
        calls: how often each call was made.

    Examples:
        >>> from starfish_server.storage.memory import MemoryObjectStore
        >>> async def main() -> None:
        ...     store = FaultyStore(MemoryObjectStore())
        ...     store.conflict(times=1)
        ...     print(await store.put_if_match("a", "1", None))
        ...     print(await store.put_if_match("a", "1", None))
        >>> asyncio.run(main())
        None
        1
    """

    def __init__(self, store: AbstractObjectStore) -> None:
        self._store = store
        self.calls: Counter[StoreCall] = Counter()
        self._conflicts = 0
        self._failures: dict[StoreCall, _Failure] = {}
        self._gates: dict[StoreCall, asyncio.Event] = {}
        self._arrivals: dict[StoreCall, asyncio.Event] = {}

    @property
    @override
    def changes(self) -> ChangeLog | None:
        return self._store.changes

    def conflict(self, *, times: int = 1) -> None:
        """Let the next calls of `put_if_match` write nothing and report another version."""
        self._conflicts = times

    def fail(
        self,
        call: StoreCall,
        *,
        times: int = 1,
        error: Exception | None = None,
        after: bool = False,
    ) -> None:
        """Let the next calls raise.

        Args:
            call: which; one rule a call, the last one counts.
            times: how many of them.
            error: the exception; `StoreUnavailableError` by default.
            after: do the call first, as when only the answer is lost.
        """
        default = StoreUnavailableError("faulty", "a test asked for it")
        self._failures[_known(call)] = _Failure(times, error or default, after)

    @contextlib.asynccontextmanager
    async def stalled(self, call: StoreCall) -> AsyncGenerator[asyncio.Event]:
        """Hold calls up, before they do anything, until the block ends.

        Yields:
            An event, set when a call has arrived.
        """
        gate = self._gates[_known(call)] = asyncio.Event()
        arrived = self._arrivals[call] = asyncio.Event()
        try:
            yield arrived
        finally:
            del self._gates[call], self._arrivals[call]
            gate.set()

    async def _do(self, call: StoreCall, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self.calls[call] += 1
        if call in self._gates:
            self._arrivals[call].set()
            await self._gates[call].wait()
        failure = self._failures.get(call)
        if failure is None or failure.times == 0:
            return await step()
        failure.times -= 1
        if failure.after:
            await step()
        raise failure.error

    @override
    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        return await self._do("get_string", lambda: self._store.get_string(key, context=context))

    @override
    async def get_with_etag(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[str, str] | None:
        return await self._do(
            "get_with_etag", lambda: self._store.get_with_etag(key, context=context)
        )

    @override
    async def get_bytes(
        self, key: str, *, context: StoreContext | None = None
    ) -> tuple[bytes, str] | None:
        return await self._do("get_bytes", lambda: self._store.get_bytes(key, context=context))

    @override
    async def put(
        self,
        key: str,
        body: str,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        await self._do(
            "put",
            lambda: self._store.put(
                key, body, content_type=content_type, cache_control=cache_control, context=context
            ),
        )

    @override
    async def put_bytes(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> None:
        await self._do(
            "put_bytes",
            lambda: self._store.put_bytes(
                key, body, content_type=content_type, cache_control=cache_control, context=context
            ),
        )

    @override
    async def put_if_match(
        self,
        key: str,
        body: str,
        expected_etag: str | None,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        context: StoreContext | None = None,
    ) -> str | None:
        async def step() -> str | None:
            if self._conflicts:
                self._conflicts -= 1
                return None
            return await self._store.put_if_match(
                key,
                body,
                expected_etag,
                content_type=content_type,
                cache_control=cache_control,
                context=context,
            )

        return await self._do("put_if_match", step)

    @override
    async def list_keys(
        self,
        prefix: str,
        *,
        start_after: str | None = None,
        limit: int | None = None,
        context: StoreContext | None = None,
    ) -> list[str]:
        return await self._do(
            "list_keys",
            lambda: self._store.list_keys(
                prefix, start_after=start_after, limit=limit, context=context
            ),
        )

    @override
    async def delete(self, key: str, *, context: StoreContext | None = None) -> None:
        await self._do("delete", lambda: self._store.delete(key, context=context))

    @override
    async def delete_many(
        self, keys: Sequence[str], *, context: StoreContext | None = None
    ) -> None:
        await self._do("delete_many", lambda: self._store.delete_many(keys, context=context))

    @override
    async def close(self) -> None:
        await self._store.close()


def _known(call: StoreCall) -> StoreCall:
    if call not in get_args(StoreCall):
        raise ValueError(
            f"{call!r} is not a call of a store; it must be one of {', '.join(get_args(StoreCall))}"
        )
    return call

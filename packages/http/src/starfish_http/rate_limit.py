"""Counters that bound how many requests a caller may send.

A window opens with a caller's first request and lasts ``window_ms``; the next one opens with the first
request after it. A caller can therefore send twice the maximum around the end of a window, never
more; in exchange a counter is two numbers, and a refusal says exactly when to come back. A refused
request is not counted.

Rule 1: counting never writes to a disk. The processes of one machine share memory (`SharedCounters`, made
before they are forked); machines take permits in lots from a store (`LeasedCounters`).
Rule 2: a counter that others can read holds no identity and no address, only a digest of them.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import mmap
import os
import struct
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from typing_extensions import override

from starfish_http.errors import RequestRefusedError
from starfish_protocol.clock import Clock, SystemClock

__all__ = (
    "Counter",
    "Counters",
    "Lease",
    "LeasedCounters",
    "Limit",
    "MemoryCounters",
    "PermitStore",
    "RateLimiter",
    "SharedCounters",
)


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests in so much time."""

    max_requests: int
    """Requests of one window."""
    window_ms: int
    """Milliseconds from the first of them to the next window."""


@dataclass(frozen=True, slots=True)
class Counter:
    """One limit and the caller it counts."""

    limit: Limit
    key: str
    """Names the limit and the caller; hashed before it is kept anywhere others can read."""


class Counters(Protocol):
    """Where requests are counted."""

    async def take(self, counters: Sequence[Counter], now_ms: int) -> int | None:
        """Count one request in every counter where each has room, else in none.

        Returns:
            ``None`` when it was counted, else when the fullest resets, in milliseconds since the
            epoch.
        """
        ...


class RateLimiter:
    """Counts requests, and says when a caller may come back.

    Args:
        counters: where; ``None`` for the memory of this process.
        clock: where the time comes from.

    Examples:
        >>> async def main():
        ...     limiter, one = RateLimiter(), Counter(Limit(1, 60_000), "ada")
        ...     return await limiter.take([one]), (await limiter.take([one])) > 0
        >>> asyncio.run(main())
        (None, True)
    """

    def __init__(self, counters: Counters | None = None, *, clock: Clock | None = None) -> None:
        self._counters = MemoryCounters() if counters is None else counters
        self._clock = clock or SystemClock()

    async def take(self, counters: Sequence[Counter]) -> int | None:
        """Count one request where every counter has room, else count it nowhere.

        Returns:
            ``None`` when the request may go on, else the seconds after which it may be sent
            again, at least 1: the value of ``Retry-After``.
        """
        if not counters:
            return None
        resets_at = await self._counters.take(counters, self._clock.now_ms())
        if resets_at is None:
            return None
        return max(1, -(-(resets_at - self._clock.now_ms()) // 1000))

    async def admit(self, counters: Sequence[Counter]) -> None:
        """Count one request, or refuse it.

        Raises:
            RequestRefusedError: 429, with ``Retry-After``.
        """
        seconds = await self.take(counters)
        if seconds is not None:
            raise RequestRefusedError(
                429,
                "rate_limited",
                f"too many requests; the next may be sent in {seconds} s",
                headers={"retry-after": str(seconds)},
            )


@dataclass(frozen=True, slots=True)
class _Window:
    """How much of one limit is used up."""

    resets_at: int
    count: int

    def is_open(self, limit: Limit, now: int) -> bool:
        # A reset further away than a whole window was written before the clock was set back.
        return now < self.resets_at <= now + limit.window_ms


def _after_one_more(limit: Limit, window: _Window | None, now: int) -> _Window | None:
    """The window with this request in it, ``None`` when it is full."""
    if window is None or not window.is_open(limit, now):
        return _Window(now + limit.window_ms, 1) if limit.max_requests > 0 else None
    if window.count >= limit.max_requests:
        return None
    return _Window(window.resets_at, window.count + 1)


class _Windows(Counters):
    """Counts in windows that `_held` gives and `_put` takes, in one step."""

    @override
    async def take(self, counters: Sequence[Counter], now_ms: int) -> int | None:
        return self.take_now(counters, now_ms)

    def take_now(self, counters: Sequence[Counter], now_ms: int) -> int | None:
        """As `take`, without waiting."""
        with self._held([counter.key for counter in counters]) as windows:
            taken: list[tuple[Counter, _Window]] = []
            full: list[int] = []
            for counter, window in zip(counters, windows, strict=True):
                after = _after_one_more(counter.limit, window, now_ms)
                if after is not None:
                    taken.append((counter, after))
                else:
                    full.append(
                        now_ms + counter.limit.window_ms if window is None else window.resets_at
                    )
            if full:
                return max(full)
            for counter, after in taken:
                self._put(counter.key, self._counted(counter, after), now_ms)
        return None

    def _counted(self, counter: Counter, after: _Window) -> _Window:  # noqa: ARG002 - others take lots
        """The window to keep, once a request is counted in it."""
        return after

    @contextmanager
    def _held(self, keys: Sequence[str]) -> Generator[list[_Window | None]]:
        raise NotImplementedError

    def _put(self, key: str, window: _Window, now_ms: int) -> None:
        raise NotImplementedError


class MemoryCounters(_Windows):
    """Counters of one process.

    Args:
        most: beyond so many counters, the one unused for longest is forgotten.
    """

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    @override
    @contextmanager
    def _held(self, keys: Sequence[str]) -> Generator[list[_Window | None]]:
        yield [self._windows.get(key) for key in keys]

    @override
    def _put(self, key: str, window: _Window, now_ms: int) -> None:
        self._windows[key] = window
        self._windows.move_to_end(key)
        while len(self._windows) > self._most:
            self._windows.popitem(last=False)


class SharedCounters(_Windows):
    """Counters of all processes of one machine: make it before they are forked.

    They lie in memory, in sets of eight. Sets are locked for the microsecond that counting takes by
    locks of the system, which end with their process, so a killed worker stops nobody. Where a set is
    full, the counter that resets first is forgotten.

    A limit below 2,048 requests is counted exactly. Of a greater one a process takes up to 64 permits at
    once while the maximum is far away, and counts requests from these without a lock; permits that it
    does not use are lost, so that up to 0.1 % of such a limit may be refused early.

    Args:
        most: counters there is room for; 32 bytes each.
    """

    _WAYS = 8
    _SLOT = struct.Struct("=16sqq")

    def __init__(self, most: int = 65_536) -> None:
        self._sets = max(1, -(-most // self._WAYS))
        size = self._sets * self._WAYS * self._SLOT.size
        self._descriptor = _memory(size)
        self._memory = mmap.mmap(self._descriptor, size)
        self._threads = threading.Lock()
        self._lots: OrderedDict[str, _Lot] = OrderedDict()
        self._lots_of = os.getpid()

    @override
    def take_now(self, counters: Sequence[Counter], now_ms: int) -> int | None:
        """As `take`, without waiting."""
        with self._threads:
            if self._lots_of != os.getpid():  # a forked process must not spend its parent's permits
                self._lots.clear()
                self._lots_of = os.getpid()
            if self._spend(counters, now_ms):
                return None
        return super().take_now(counters, now_ms)

    def _spend(self, counters: Sequence[Counter], now_ms: int) -> bool:
        """Take one permit of each counter from the lots of this process, where each has one."""
        lots: list[_Lot] = []
        for counter in counters:
            lot = self._lots.get(counter.key)
            if lot is None or not _Window(lot.resets_at, 0).is_open(counter.limit, now_ms):
                return False
            lots.append(lot)
        if not all(lot.permits > 0 for lot in lots):
            return False
        for lot in lots:
            lot.permits -= 1
        return True

    @override
    def _counted(self, counter: Counter, after: _Window) -> _Window:
        held = self._lots.get(counter.key)
        if held is not None and held.permits > 0 and held.resets_at == after.resets_at:
            return after  # another counter of the request had none
        most = counter.limit.max_requests
        lot = min(_LARGEST_LOT, (most - after.count) // _FAR_AWAY)
        if most < 2 * _FAR_AWAY or lot <= 0:
            self._lots.pop(counter.key, None)
            return after
        self._lots[counter.key] = _Lot(lot, after.resets_at, is_refused=False)
        self._lots.move_to_end(counter.key)
        if len(self._lots) > _MOST_LOTS:
            self._lots.popitem(last=False)
        return _Window(after.resets_at, after.count + lot)

    @override
    @contextmanager
    def _held(self, keys: Sequence[str]) -> Generator[list[_Window | None]]:
        digests = [_digest(key) for key in keys]
        width = self._WAYS * self._SLOT.size
        # In one order everywhere, so that two processes never wait for each other.
        sets = sorted({self._set_of(digest) for digest in digests})
        with self._threads:
            for each in sets:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX, width, each * width)
            try:
                yield [self._get(digest) for digest in digests]
            finally:
                for each in sets:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN, width, each * width)

    @override
    def _put(self, key: str, window: _Window, now_ms: int) -> None:
        digest = _digest(key)
        first: tuple[int, int] | None = None
        for at in self._slots(digest):
            held, resets_at, _ = self._SLOT.unpack_from(self._memory, at)
            if held == digest:
                first = (0, at)
                break
            candidate = (0 if resets_at <= now_ms else resets_at, at)
            if first is None or candidate < first:
                first = candidate
        if first is not None:
            self._SLOT.pack_into(self._memory, first[1], digest, window.resets_at, window.count)

    def _get(self, digest: bytes) -> _Window | None:
        for at in self._slots(digest):
            held, resets_at, count = self._SLOT.unpack_from(self._memory, at)
            if held == digest:
                return _Window(resets_at, count)
        return None

    def _slots(self, digest: bytes) -> range:
        width = self._WAYS * self._SLOT.size
        begin = self._set_of(digest) * width
        return range(begin, begin + width, self._SLOT.size)

    def _set_of(self, digest: bytes) -> int:
        return int.from_bytes(digest[:8]) % self._sets


@dataclass(frozen=True, slots=True)
class Lease:
    """Permits that a store handed out."""

    permits: int
    """How many; 0 when the window is used up."""
    resets_at: int
    """Until when, in milliseconds since the epoch."""


class PermitStore(Protocol):
    """Hands out the permits of a window to several machines: the hook of a database."""

    async def lease(self, digest: str, limit: Limit, wanted: int, now_ms: int) -> Lease:
        """Take up to so many permits of a counter, in one step of the store.

        Args:
            digest: names the counter; 32 hex digits.
            limit: of the counter.
            wanted: most permits to hand out.
            now_ms: milliseconds since the epoch.
        """
        ...


class LeasedCounters(Counters):
    """Counters of several machines, which take permits in lots.

    A request is counted from the lot in memory; the store is asked once a lot. Permits that are not used
    when a window ends are lost, which errs on the strict side.

    Args:
        store: hands out the permits.
        lot: the share of a limit that is asked for at once, at least one permit.
        most: beyond so many counters, the one unused for longest is forgotten.
    """

    def __init__(self, store: PermitStore, *, lot: float = 0.05, most: int = 100_000) -> None:
        self._store = store
        self._share = lot
        self._most = most
        self._lots: OrderedDict[str, _Lot] = OrderedDict()
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @override
    async def take(self, counters: Sequence[Counter], now_ms: int) -> int | None:
        for _ in range(_LEASE_ATTEMPTS):
            for counter in counters:
                await self._fill(counter, now_ms)
            # From here on nothing waits: the permits are counted in one step.
            lots = {counter.key: self._lots.get(counter.key) for counter in counters}
            full = [lot.resets_at for lot in lots.values() if lot is not None and lot.is_refused]
            if full:
                return max(full)
            ready = {key: lot for key, lot in lots.items() if lot is not None and lot.permits > 0}
            if len(ready) == len(lots):
                for key, lot in ready.items():
                    lot.permits -= 1
                    self._lots.move_to_end(key)
                return None
        return now_ms  # so much company is itself a reason to slow down

    async def _fill(self, counter: Counter, now: int) -> None:
        if self._is_settled(counter, now):
            return
        lock = self._asking.setdefault(counter.key, asyncio.Lock())
        async with lock:
            if self._is_settled(counter, now):
                return
            wanted = max(1, int(counter.limit.max_requests * self._share))
            digest = _digest(counter.key).hex()
            lease = await self._store.lease(digest, counter.limit, wanted, now)
            self._lots[counter.key] = _Lot(lease.permits, lease.resets_at, lease.permits < 1)
            while len(self._lots) > self._most:
                self._lots.popitem(last=False)

    def _is_settled(self, counter: Counter, now: int) -> bool:
        """Whether there is a permit, or it is known that there is none."""
        lot = self._lots.get(counter.key)
        if lot is None or not now < lot.resets_at <= now + counter.limit.window_ms:
            return False
        return lot.is_refused or lot.permits > 0


@dataclass(slots=True)
class _Lot:
    permits: int
    resets_at: int
    is_refused: bool


_LEASE_ATTEMPTS = 100
_LARGEST_LOT = 64
_FAR_AWAY = 1024
_MOST_LOTS = 10_000


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _memory(size: int) -> int:
    """A descriptor of so many zero bytes that no other program can open."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("starfish-rate-limit", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor

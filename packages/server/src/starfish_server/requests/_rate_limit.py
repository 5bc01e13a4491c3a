"""Counters that bound how many requests a caller may send.

A window opens with a caller's first request and lasts ``windowMs``; the next one opens with the
first request after it. A caller can therefore send twice the maximum around the end of a window,
never more; in exchange a counter is two numbers, a refusal says exactly when to come back, and
one compare-and-swap shares it between processes. A refused request is not counted.

Rule: a record in a shared store holds no identity and no address, only a digest of them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from starfish_protocol.clock import Clock
from starfish_server.config._rate_limits import ACTIONS, Limit, RateLimitAction, limits_of_action
from starfish_server.config._validate import located_collections
from starfish_server.config.schema import SyncConfig
from starfish_server.errors import ConfigError
from starfish_server.storage.base import AbstractObjectStore, has_compare_and_swap

__all__ = ("RateLimiter", "client_address")

RECORDS_PREFIX = "~rate-limit/"
"""Keys of shared counters; ``~`` is in no document's key."""

_SERVER_SCOPE = "server"
_SWAP_ATTEMPTS = 100
_SWEEP_EVERY = 16
_SWEPT_AT_ONCE = 32
_KEPT_AFTER_RESET_MS = 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class _Window:
    """The rest of one caller's limit."""

    resets_at: int
    """Milliseconds since the epoch."""
    count: int


@dataclass(frozen=True, slots=True)
class _Counter:
    """One limit and whom it counts just now."""

    limit: Limit
    key: str

    def after_one_more(self, window: _Window | None, now: int) -> _Window | None:
        """The window with this request in it, ``None`` when it is full."""
        if window is None or not self.is_open(window, now):
            return _Window(now + self.limit.window_ms, 1)
        if window.count >= self.limit.max_requests:
            return None
        return _Window(window.resets_at, window.count + 1)

    def is_open(self, window: _Window, now: int) -> bool:
        # A reset further away than a whole window was written before the clock was set back.
        return now < window.resets_at <= now + self.limit.window_ms


class RateLimiter:
    """Counts requests against the limits of a configuration.

    Args:
        config: a configuration that `validate_config` accepts.
        clock: where the time comes from.
        store: where counters are shared between processes; ``None`` counts in this process. Each
            counted request is then a write to that store.
        max_counters: most counters held in memory; beyond it the one unused for longest is
            forgotten.

    Raises:
        ConfigError: the store cannot compare and swap, so that processes would overwrite each
            other's counts.
    """

    def __init__(
        self,
        config: SyncConfig,
        *,
        clock: Clock,
        store: AbstractObjectStore | None = None,
        max_counters: int = 100_000,
    ) -> None:
        if store is not None and not has_compare_and_swap(store):
            problem = (
                f"rate_limit_store: {type(store).__name__} has no compare-and-swap; "
                "the store must implement get_with_etag and put_if_match"
            )
            raise ConfigError([problem])
        self._clock = clock
        self._windows = _MemoryWindows(max_counters) if store is None else _SharedWindows(store)
        self._limits: dict[tuple[str | None, str | None, RateLimitAction | None], Sequence[Limit]]
        self._limits = {
            (located.namespace, located.config.name, action): limits
            for located in located_collections(config)
            if located.config.rate_limit is not None
            for action in ACTIONS
            if (limits := limits_of_action(located.config.rate_limit, action, config.rate_limit))
        }
        self._server_limit = (
            None
            if config.server_rate_limit is None
            else Limit(
                "identity",
                config.server_rate_limit.window_ms,
                config.server_rate_limit.max_requests,
            )
        )

    async def take(
        self,
        *,
        identity: str | None,
        address: str,
        collection: str | None = None,
        namespace: str | None = None,
        action: RateLimitAction | None = None,
    ) -> int | None:
        """Count one request where every counter has room, else count it nowhere.

        Args:
            identity: the caller; anonymous ones are counted by address.
            address: what `client_address` returned.
            collection: the collection that is asked for; ``None`` counts for the server as a whole only.
            namespace: of the collection.
            action: the action on the collection.

        Returns:
            ``None`` when the request may go on, else the seconds after which it may be sent
            again, at least 1: the value of ``Retry-After``.

        Raises:
            StoreError: the shared counters cannot be reached.
        """
        counters = self._counters(identity, address, collection, namespace, action)
        if not counters:
            return None
        resets_at = await self._windows.take(counters, self._clock)
        if resets_at is None:
            return None
        return max(1, -(-(resets_at - self._clock.now_ms()) // 1000))

    def _counters(
        self,
        identity: str | None,
        address: str,
        collection: str | None,
        namespace: str | None,
        action: RateLimitAction | None,
    ) -> list[_Counter]:
        counters: list[_Counter] = []
        for limit in self._limits.get((namespace, collection, action), ()):
            who = _who(limit, identity, address)
            scope = json.dumps([namespace, collection, action, limit.by, who])
            counters.append(_Counter(limit, scope))
        if self._server_limit is not None:
            who = _who(self._server_limit, identity, address)
            counters.append(_Counter(self._server_limit, json.dumps([_SERVER_SCOPE, who])))
        return counters


class _MemoryWindows:
    """Counters of one process; nothing here awaits, so a request is counted in one step."""

    def __init__(self, max_counters: int) -> None:
        self._max_counters = max_counters
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    async def take(self, counters: Sequence[_Counter], clock: Clock) -> int | None:
        now = clock.now_ms()
        taken: dict[str, _Window] = {}
        full: list[int] = []
        for counter in counters:
            window = self._windows.get(counter.key)
            after = counter.after_one_more(window, now)
            if after is None:
                full.append(cast("_Window", window).resets_at)
            else:
                taken[counter.key] = after
        if full:
            return max(full)
        for key, window in taken.items():
            self._windows[key] = window
            self._windows.move_to_end(key)
        while len(self._windows) > self._max_counters:
            self._windows.popitem(last=False)
        return None


class _SharedWindows:
    """Counters in a store, one record each."""

    def __init__(self, store: AbstractObjectStore) -> None:
        self._store = store
        self._writes = 0
        self._swept_to: str | None = None

    async def take(self, counters: Sequence[_Counter], clock: Clock) -> int | None:
        full: list[int] = []
        for counter in counters:
            window, _ = await self._read(counter)
            if window is not None and counter.after_one_more(window, clock.now_ms()) is None:
                full.append(window.resets_at)
        if full:
            return max(full)
        for counter in counters:
            # Another process may fill a counter between the look and the swap. The counters
            # before it then hold one request too many, which errs on the strict side.
            resets_at = await self._swap(counter, clock)
            if resets_at is not None:
                return resets_at
        await self._sweep(clock.now_ms())
        return None

    async def _swap(self, counter: _Counter, clock: Clock) -> int | None:
        for _ in range(_SWAP_ATTEMPTS):
            window, etag = await self._read(counter)
            after = counter.after_one_more(window, clock.now_ms())
            if after is None:
                return cast("_Window", window).resets_at
            record = json.dumps({"resetsAt": after.resets_at, "count": after.count})
            if await self._store.put_if_match(_record_key(counter), record, etag) is not None:
                return None
        return clock.now_ms()  # so much company is itself a reason to slow down

    async def _read(self, counter: _Counter) -> tuple[_Window | None, str | None]:
        found = await self._store.get_with_etag(_record_key(counter))
        return (None, None) if found is None else (_window_of(found[0]), found[1])

    async def _sweep(self, now: int) -> None:
        """Forget some long expired counters, more of them than were added since the last time."""
        self._writes += 1
        if self._writes % _SWEEP_EVERY:
            return
        keys = await self._store.list_keys(
            RECORDS_PREFIX, start_after=self._swept_to, limit=_SWEPT_AT_ONCE
        )
        self._swept_to = keys[-1] if len(keys) == _SWEPT_AT_ONCE else None
        expired: list[str] = []
        for key in keys:
            text = await self._store.get_string(key)
            window = None if text is None else _window_of(text)
            if window is None or window.resets_at + _KEPT_AFTER_RESET_MS < now:
                expired.append(key)
        if expired:
            await self._store.delete_many(expired)


def _record_key(counter: _Counter) -> str:
    return RECORDS_PREFIX + hashlib.sha256(counter.key.encode()).hexdigest()


def _window_of(record: str) -> _Window | None:
    """A record's window; a damaged record counts as none, and the next write repairs it."""
    try:
        raw = json.loads(record)
        return _Window(int(raw["resetsAt"]), int(raw["count"]))
    except (ValueError, TypeError, KeyError):
        return None


def _who(limit: Limit, identity: str | None, address: str) -> list[str]:
    if limit.by == "identity" and identity is not None:
        return ["identity", identity]
    return ["ip", address]


def client_address(
    peer: str | None, forwarded_for: Iterable[str] = (), *, trusted_proxy_hops: int = 0
) -> str:
    """The address that a request is counted by.

    Args:
        peer: who opened the connection; ``None`` over a local socket.
        forwarded_for: the ``X-Forwarded-For`` headers, in order.
        trusted_proxy_hops: how many proxies of one's own a request passes. Each appends whom it
            got the request from, so the caller stands so many places from the right; anything
            left of that the caller may have made up. With 0 the header is ignored.

    Returns:
        An IPv4 address, or the first 64 bits of an IPv6 address, since one household has them
        all; the peer when the header is shorter than the hops or holds no address there.

    Examples:
        >>> client_address("10.0.0.1", ["6.6.6.6, 203.0.113.9"], trusted_proxy_hops=1)
        '203.0.113.9'
        >>> client_address("2001:db8::1:2")
        '2001:db8::/64'
    """
    if trusted_proxy_hops > 0:
        hops = [hop for header in forwarded_for for hop in header.split(",")]
        if len(hops) >= trusted_proxy_hops:
            found = _network(_without_port(hops[-trusted_proxy_hops].strip()))
            if found is not None:
                return found
    return "unknown" if peer is None else _network(peer) or peer


def _network(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


def _without_port(hop: str) -> str:
    """Some proxies append ``:port``, and brackets around IPv6."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop

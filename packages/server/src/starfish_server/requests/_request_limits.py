"""How many requests a caller may send: the limits of a configuration, counted by `starfish_http`.

The processes of one machine share counters in memory. Servers on several machines take permits in lots
from the store that they share, so a request is not a write.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from typing_extensions import override

from starfish_http.rate_limit import (
    Counter,
    Counters,
    Lease,
    LeasedCounters,
    Limit,
    PermitStore,
    RateLimiter,
)
from starfish_protocol.clock import Clock
from starfish_server.config import _rate_limits as configured
from starfish_server.config._rate_limits import ACTIONS, RateLimitAction, limits_of_action
from starfish_server.config._validate import located_collections
from starfish_server.config.schema import SyncConfig
from starfish_server.documents._json_shapes import is_object
from starfish_server.errors import ConfigError
from starfish_server.storage.adapter import as_object_store
from starfish_server.storage.base import AbstractObjectStore, has_compare_and_swap
from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.object_store import ObjectStore, write_once
from starfish_server.storage.values import ABSENT, Match, Stored, Value

__all__ = ("RECORDS_PREFIX", "RequestLimits", "StoredPermits", "counters_of_store")

RECORDS_PREFIX = "~rate-limit/"
"""Keys of windows in a store; ``~`` is in no document's key."""

_SERVER = "server"
_SWAP_ATTEMPTS = 100
_KEPT_AFTER_RESET_MS = 60 * 60 * 1000


class RequestLimits:
    """Counts requests against the limits of a configuration.

    Args:
        config: a configuration that `validate_config` accepts.
        clock: where the time comes from.
        counters: where requests are counted; ``None`` for the memory of this process.
    """

    def __init__(
        self, config: SyncConfig, *, clock: Clock, counters: Counters | None = None
    ) -> None:
        self._limiter = RateLimiter(counters, clock=clock)
        self._limits: dict[tuple[str | None, str, RateLimitAction], Sequence[configured.Limit]] = {
            (located.namespace, located.config.name, action): limits
            for located in located_collections(config)
            if located.config.rate_limit is not None
            for action in ACTIONS
            if (limits := limits_of_action(located.config.rate_limit, action, config.rate_limit))
        }
        whole = config.server_rate_limit
        self._server = None if whole is None else Limit(whole.max_requests, whole.window_ms)

    @property
    def counts_everything(self) -> bool:
        """Whether the server as a whole has a limit."""
        return self._server is not None

    async def take_for_server(self, *, identity: str | None, address: str) -> int | None:
        """Count one request to anything at all; as `take`."""
        if self._server is None:
            return None
        who = _who("identity", identity, address)
        return await self._limiter.take([Counter(self._server, json.dumps([_SERVER, *who]))])

    async def take(
        self,
        *,
        identity: str | None,
        address: str,
        collection: str,
        action: RateLimitAction,
        namespace: str | None = None,
    ) -> int | None:
        """Count one request where every counter has room, else count it nowhere.

        Args:
            identity: the caller; anonymous ones are counted by address.
            address: of the caller, as `starfish_http.addresses` tells it.
            collection: the collection that is asked for.
            action: the action on the collection.
            namespace: of the collection.

        Returns:
            ``None`` when the request may go on, else the seconds after which it may be sent
            again, at least 1: the value of ``Retry-After``.

        Raises:
            StoreError: the shared counters cannot be reached.
        """
        counters = [
            Counter(
                Limit(limit.max_requests, limit.window_ms),
                json.dumps([namespace, collection, action, *_who(limit.by, identity, address)]),
            )
            for limit in self._limits.get((namespace, collection, action), ())
        ]
        return await self._limiter.take(counters)


def counters_of_store(store: AbstractObjectStore) -> Counters:
    """Counters that servers on several machines share through a store, in lots of permits.

    Raises:
        ConfigError: the store cannot compare and swap, so that processes would overwrite each
            other's counts.
    """
    if not has_compare_and_swap(store):
        problem = (
            f"rate_limit_store: {type(store).__name__} has no compare-and-swap; "
            "the store must implement get_with_etag and put_if_match"
        )
        raise ConfigError([problem])
    return LeasedCounters(StoredPermits(as_object_store(store)))


class StoredPermits(PermitStore):
    """Windows in a store, one record each, which expire some time after their end.

    A record holds no identity and no address; its key is a digest of them.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @override
    async def lease(self, digest: str, limit: Limit, wanted: int, now_ms: int) -> Lease:
        key = RECORDS_PREFIX + digest
        for _ in range(_SWAP_ATTEMPTS):
            found = await self._store.get(key)
            window = None if found is None else _window(found.body)
            # A reset further away than a whole window was written before the clock was set back.
            if window is None or not now_ms < window[0] <= now_ms + limit.window_ms:
                window = (now_ms + limit.window_ms, 0)
            resets_at, count = window
            permits = min(wanted, limit.max_requests - count)
            if permits <= 0:
                return Lease(0, resets_at)
            if await self._swap(key, found, resets_at, count + permits):
                return Lease(permits, resets_at)
        return Lease(0, now_ms + 1)  # so much company is itself a reason to slow down

    async def _swap(self, key: str, found: Stored | None, resets_at: int, count: int) -> bool:
        text = json.dumps({"resetsAt": resets_at, "count": count})
        value = Value(text.encode(), expires_at=resets_at + _KEPT_AFTER_RESET_MS)
        when = ABSENT if found is None else Match(found.metadata.etag)
        try:
            await write_once(self._store, key, value, when=when)
        except PreconditionFailedError:
            return False
        return True


def _window(body: bytes) -> tuple[int, int] | None:
    """When a stored window ends and how much of it is used; ``None`` for a damaged record."""
    try:
        record = json.loads(body)
    except ValueError:
        return None
    if not is_object(record):
        return None
    resets_at, count = record.get("resetsAt"), record.get("count")
    if type(resets_at) is not int or type(count) is not int or count < 0:
        return None
    return resets_at, count


def _who(by: str, identity: str | None, address: str) -> tuple[str, str]:
    if by == "identity" and identity is not None:
        return "identity", identity
    return f"{by} ip", address

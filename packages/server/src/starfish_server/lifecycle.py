"""What starts and stops with a server, and in which order.

The store first, then the plugins as listed; at the end the plugins from last to first, then the
store. Whoever serves requests finishes the ones in flight before it leaves `running`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from starfish_protocol.plugins import LifecycleHook, ServerPlugin
from starfish_server.storage.base import AbstractObjectStore

__all__ = ("running",)

_logger = logging.getLogger(__name__)


@asynccontextmanager
async def running(
    store: AbstractObjectStore, plugins: Sequence[ServerPlugin] = ()
) -> AsyncGenerator[None]:
    """Hold a store open and plugins started.

    A plugin whose ``startup`` raises stops the start: what was started before it is stopped again
    and the error goes on. A ``shutdown`` that raises is logged, and the others still run. The
    store is closed in any case.

    Raises:
        StoreError: the store does not answer.
    """
    async with AsyncExitStack() as started:
        started.push_async_callback(store.close)
        # A store opens on first use; better now than in somebody's request.
        await store.list_keys("", limit=1)
        for plugin in plugins:
            if plugin.startup is not None:
                await _run(plugin.startup)
            if plugin.shutdown is not None:
                started.push_async_callback(_shut_down, plugin.name, plugin.shutdown)
        yield


async def _shut_down(name: str, hook: LifecycleHook) -> None:
    try:
        await _run(hook)
    except Exception:
        _logger.exception("shutdown of plugin %s failed", name)


async def _run(hook: LifecycleHook) -> None:
    result = hook()
    if inspect.isawaitable(result):
        await result

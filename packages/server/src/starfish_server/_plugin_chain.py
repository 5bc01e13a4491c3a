"""The order in which the hooks of several plugins run.

Rule 1: hooks run in list order and the first result that is not ``proceed`` wins. Rule 2: a hook
that gates a request fails it by raising; `PluginChain.after_write` observes, so its failures are
logged and nobody else notices.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar, cast

from starfish_protocol.plugins import (
    AuthorizeContext,
    AuthorizeResult,
    InterceptPullResult,
    LifecycleHook,
    PullHookContext,
    PullHookResult,
    PushHookContext,
    PushHookResult,
    ServerPlugin,
    WriteEvent,
)

__all__ = ("PluginChain",)

_LOG = logging.getLogger(__name__)
_Context = TypeVar("_Context")
_Result = TypeVar("_Result", AuthorizeResult, InterceptPullResult, PullHookResult, PushHookResult)


class PluginChain:
    """Several plugins as one."""

    def __init__(self, plugins: Sequence[ServerPlugin] | None = None) -> None:
        self._plugins = tuple(plugins or ())
        self._authorize = _present(plugin.authorize for plugin in self._plugins)
        self._before_pull = _present(plugin.before_pull for plugin in self._plugins)
        self._intercept_pull = _present(plugin.intercept_pull for plugin in self._plugins)
        self._intercept_push = _present(plugin.intercept_push for plugin in self._plugins)
        self._read_stored = _present(plugin.read_stored for plugin in self._plugins)
        self._after_write = tuple(
            (plugin.name, plugin.after_write)
            for plugin in self._plugins
            if plugin.after_write is not None
        )

    @property
    def gates_pulls(self) -> bool:
        """Whether any hook wants to see pulls before they are served."""
        return bool(self._before_pull or self._intercept_pull)

    @property
    def gates_pushes(self) -> bool:
        """Whether any hook wants to see pushes before they are stored."""
        return bool(self._intercept_push)

    @property
    def observes_writes(self) -> bool:
        """Whether any hook wants to see stored writes."""
        return bool(self._after_write)

    @property
    def authorizes(self) -> bool:
        """Whether any hook decides over access."""
        return bool(self._authorize)

    async def authorize(self, context: AuthorizeContext) -> AuthorizeResult | None:
        """The first rejection of an action whose roles suffice."""
        return await _first_not_proceeding(self._authorize, context)

    async def before_pull(self, context: PullHookContext) -> PullHookResult | None:
        """The first rejection of a pull."""
        return await _first_not_proceeding(self._before_pull, context)

    async def intercept_pull(self, context: PullHookContext) -> InterceptPullResult | None:
        """The first answer to a pull by a plugin."""
        return await _first_not_proceeding(self._intercept_pull, context)

    async def intercept_push(self, context: PushHookContext) -> PushHookResult | None:
        """The first rejection of a push, or answer to it, by a plugin."""
        return await _first_not_proceeding(self._intercept_push, context)

    @property
    def reads_stored(self) -> bool:
        """Whether any hook makes documents of their stored form."""
        return bool(self._read_stored)

    async def read_stored(self, key: str, body: bytes) -> bytes:
        """A document as readers see it, from its stored form."""
        for hook in self._read_stored:
            body = await _settled(hook(key, body))
        return body

    async def after_write(self, event: WriteEvent) -> None:
        """Tell every plugin of a stored write; returns when all have seen it."""
        for name, hook in self._after_write:
            try:
                await _settled(hook(event))
            except Exception:  # noqa: BLE001 - the push is stored, whatever an observer raises
                _LOG.exception(
                    "after_write of plugin %s failed for collection %s", name, event.collection
                )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Hold the plugins started: in order, and stopped from last to first.

        A ``startup`` that raises stops the start: the plugins started before it are stopped again and
        the error goes on. A ``shutdown`` that raises is logged, and the others still run.
        """
        async with AsyncExitStack() as started:
            for plugin in self._plugins:
                if plugin.startup is not None:
                    await _settled(plugin.startup())
                if plugin.shutdown is not None:
                    started.push_async_callback(_shut_down, plugin.name, plugin.shutdown)
            yield


async def _shut_down(name: str, hook: LifecycleHook) -> None:
    try:
        await _settled(hook())
    except Exception:  # noqa: BLE001 - the other plugins must stop too
        _LOG.exception("shutdown of plugin %s failed", name)


def _present(hooks: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(hook for hook in hooks if hook is not None)


async def _settled(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def _first_not_proceeding(
    hooks: tuple[Callable[[_Context], _Result | Awaitable[_Result]], ...], context: _Context
) -> _Result | None:
    for hook in hooks:
        result = cast("_Result", await _settled(hook(context)))
        if result.action != "proceed":
            return result
    return None

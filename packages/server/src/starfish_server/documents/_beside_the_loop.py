"""Work on large texts, where it keeps no other request waiting.

A thread shares the interpreter, so each step of such work must be short: one call in C. A decoder
that makes 300,000 lists sets the garbage collector off 400 times, which takes longer than the
decoding and finds nothing, so collections wait until the work is done.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, TypeVar

__all__ = ("beside_the_loop",)

_INLINE_BYTES = 32_768
"""Work on this much text takes a fraction of a millisecond; a thread costs about as much."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def beside_the_loop(
    size: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Call a function on ``size`` bytes of text: at once when they are few, else in a thread."""
    if size <= _INLINE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(_uninterrupted, partial(work, *args, **kwargs))


def _uninterrupted(work: Callable[[], _T]) -> _T:
    with _COLLECTOR.paused():
        return work()


class _Collector:
    """The garbage collector, paused while any thread wants it so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses = 0
        self._was_enabled = False

    @contextmanager
    def paused(self) -> Generator[None]:
        with self._lock:
            if self._pauses == 0:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._pauses += 1
        try:
            yield
        finally:
            with self._lock:
                self._pauses -= 1
                if self._pauses == 0 and self._was_enabled:
                    gc.enable()


_COLLECTOR = _Collector()

"""Another process that uses a store, for the contract of stores that persist.

It reads a pickled function that makes the store from its argument, then one order a line from its
input. Each order is done in a forked child, so that a child can be killed and the next one starts
at once. The child writes what it achieved to the common output, a line as soon as it is true.
"""

from __future__ import annotations

import asyncio
import base64
import os
import pickle
import sys
from collections.abc import Callable, Iterable

from starfish_server.storage.base import AbstractObjectStore

__all__ = ("DONE", "body_of", "main", "number_in", "serve")

DONE = "done"
"""The line after the last of a child, however it ended."""
_TASKS = 4


def body_of(number: int) -> str:
    """A text that says which one it is in every byte, of a length that differs from the last's."""
    return f"{number:08d}," * (1 + number * 37 % 900)


def number_in(body: str | None) -> int:
    """Which text it is, 0 for none.

    Raises:
        AssertionError: it is none of them, as when it was written by half.
    """
    number = int(body[:8]) if body else 0
    assert not body or body == body_of(number), f"half a text of {len(body)} characters"
    return number


async def _increment(store: AbstractObjectStore, times: int) -> None:
    for _ in range(times):
        while True:
            found = await store.get_with_etag("counter")
            value, etag = (int(found[0]), found[1]) if found else (0, None)
            if await store.put_if_match("counter", str(value + 1), etag) is not None:
                break


async def _count(store: AbstractObjectStore, key: str) -> None:
    found = await store.get_with_etag(key)
    number, etag = (number_in(found[0]), found[1]) if found else (0, None)
    while True:
        number += 1
        if number % 3:
            etag = await store.put_if_match(key, body_of(number), etag)
            assert etag is not None, f"nobody else writes to {key}"
        else:
            await store.put(key, body_of(number))
            found = await store.get_with_etag(key)
            assert found is not None
            etag = found[1]
        os.write(1, f"{key} {number}\n".encode())


async def _obey(store: AbstractObjectStore, order: str, argument: int) -> None:
    if order == "increment":
        await asyncio.gather(*(_increment(store, argument) for _ in range(_TASKS)))
        await store.close()
    else:
        await asyncio.gather(*(_count(store, f"many/{n}") for n in range(argument)))


def serve(make_store: Callable[[], AbstractObjectStore], orders: Iterable[str]) -> None:
    """Do orders, one after the other: ``increment TIMES`` or ``count KEYS``."""
    for line in orders:
        order, argument = line.split()
        child = os.fork()
        if child == 0:
            status = 1
            os.write(1, f"child {os.getpid()}\n".encode())  # before all that it does
            try:
                asyncio.run(_obey(make_store(), order, int(argument)))
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        os.write(1, f"{DONE} {os.waitstatus_to_exitcode(status)}\n".encode())


def main() -> None:
    """Serve what the arguments and the input say."""
    serve(pickle.loads(base64.b64decode(sys.argv[1])), sys.stdin)  # noqa: S301  from the test

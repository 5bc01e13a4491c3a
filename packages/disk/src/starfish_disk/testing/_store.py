"""The little that every contract must know of a store: open, write, see the names, close."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Protocol, Self, TypeAlias

import pytest

from starfish_disk.errors import DiskError

__all__ = ("OpenStore", "OpenedStore", "Store", "StoreContract", "fork_child")

_CHILD_LIMIT_S = 60
"""A child that hangs is killed after this time, and fails its test."""


class Store(Protocol):
    """An opened store; each method may return an awaitable, when ``is_async`` is set."""

    def write(self, name: str) -> object:
        """Write a value of that name; acknowledged when it returns."""
        ...

    def names(self) -> Any:
        """The names of all values: an iterable of texts, other texts may be among them."""
        ...

    def close(self) -> object:
        """Release everything."""
        ...


OpenStore: TypeAlias = Callable[[Path], Any]
"""Opens, or makes, a store at a path; gives a `Store`, or an awaitable of one."""


class StoreContract:
    """The fixtures that each contract asks for; inherit a contract and supply ``open_store``.

    Examples:
        >>> class TestNotes(StoreContract):
        ...     error = DiskError
        ...     @pytest.fixture
        ...     def open_store(self) -> OpenStore:
        ...         return lambda path: Notes(path)
    """

    error: ClassVar[type[Exception]] = DiskError
    """The base of the store's own errors; no other may come out of it."""
    is_async: ClassVar[bool] = False
    """Whether the store's calls belong on an event loop."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Supply the function that opens a store at a path."""
        raise NotImplementedError(f"{type(self).__name__} must supply the fixture open_store")

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Where the store is opened; there is nothing under it yet."""
        return tmp_path / "store"

    @contextmanager
    def opened(self, open_store: OpenStore, path: Path) -> Generator[OpenedStore]:
        """A store for a block; an error of the store's own when it is closed is let pass."""
        with OpenedStore(open_store, path, is_async=self.is_async) as store:
            try:
                yield store
            finally:
                with suppress(self.error):
                    store.close()

    def names_at(self, open_store: OpenStore, path: Path) -> set[str]:
        """The names that a store holds which is opened now."""
        with self.opened(open_store, path) as store:
            return store.names()


class OpenedStore:
    """A store whose calls may be coroutines, used without an event loop."""

    def __init__(self, open_store: OpenStore, path: Path, *, is_async: bool) -> None:
        self._runner = asyncio.Runner() if is_async else None
        self._closed = False
        try:
            self._store: Store = self._do(open_store, path)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def write(self, *names: str) -> None:
        """Write one value after the other."""
        for name in names:
            self._do(self._store.write, name)

    def names(self) -> set[str]:
        """The names of all values."""
        return set(self._do(self._store.names))

    def close(self) -> None:
        """Close the store, once."""
        if not self._closed:
            self._closed = True
            self._do(self._store.close)

    def in_child(self) -> None:
        """Go on in a forked process, on an event loop of its own."""
        if self._runner is not None:
            self._runner = asyncio.Runner()

    def _end(self) -> None:
        if self._runner is not None:
            self._runner.close()

    def _do(self, function: Callable[..., Any], *arguments: object) -> Any:
        if self._runner is None:
            return function(*arguments)

        async def call() -> Any:
            result = function(*arguments)
            return await result if inspect.isawaitable(result) else result

        return self._runner.run(call())


def fork_child(work: Callable[[Callable[[object], None]], object]) -> list[Any]:
    """Run ``work`` in a forked process, and give the JSON values that it reported, also when it died.

    Args:
        work: gets the function that reports a value. It may kill its process.

    Raises:
        AssertionError: it raised, or took longer than a minute.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests may be there
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_child(writing, work)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        lines: list[Any] = [json.loads(line) for line in file]
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        raise AssertionError(f"it hung for {_CHILD_LIMIT_S} s; before that it said {lines}")
    if lines and (failure := getattr(lines[-1], "get", _nothing)("failed")):
        raise AssertionError(failure)
    return lines


def _nothing(_name: str) -> None:
    """A report that is not an object has no members."""


def _be_child(writing: int, work: Callable[[Callable[[object], None]], object]) -> NoReturn:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_CHILD_LIMIT_S)

    def report(value: object) -> None:
        os.write(writing, json.dumps(value).encode() + b"\n")

    try:
        work(report)
    except BaseException:  # noqa: BLE001  the parent raises it
        report({"failed": traceback.format_exc()})
    finally:
        os._exit(0)

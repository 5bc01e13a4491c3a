"""Every store against a dictionary: any sequence of calls gives what the dictionary would."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from starfish_server.storage.base import AbstractObjectStore
from starfish_server.storage.filesystem import FilesystemObjectStore
from starfish_server.storage.in_process_cas import InProcessCompareAndSwap
from starfish_server.storage.memory import MemoryObjectStore
from starfish_server.storage.sqlite import SqliteObjectStore
from starfish_server.storage.values import TEXT_CONTENT_TYPE

T = TypeVar("T")

KEYS = st.sampled_from(["a", "a/b", "a/b/c", "a.d", "A", "é", "b", "\U0010ffff", "x" * 300])
TEXTS = st.text(alphabet="aé\U0010ffff", max_size=4)
TYPES = st.sampled_from(["image/png", "a/b", TEXT_CONTENT_TYPE])


class StoreMachine(RuleBasedStateMachine):
    """Calls of a store and of a dictionary, side by side."""

    etags = Bundle("etags")

    def make(self, folder: Path) -> AbstractObjectStore:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.store = self.make(self.folder)
        self.model: dict[str, tuple[bytes, str]] = {}
        self.current: dict[str, str] = {}
        self.seen: set[str] = set()

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def teardown(self) -> None:
        self.do(self.store.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def written(self, key: str) -> str:
        """The etag after a write, which must be one that was never seen."""
        found = self.do(self.store.get_with_etag(key))
        assert found is not None
        assert found[1] not in self.seen
        self.seen.add(found[1])
        self.current[key] = found[1]
        return found[1]

    @rule(target=etags, key=KEYS, body=TEXTS, kind=st.none() | TYPES)
    def put(self, key: str, body: str, kind: str | None) -> tuple[str, str]:
        self.do(self.store.put(key, body, content_type=kind))
        self.model[key] = (body.encode(), kind or TEXT_CONTENT_TYPE)
        return key, self.written(key)

    @rule(target=etags, key=KEYS, body=TEXTS, kind=TYPES)
    def put_bytes(self, key: str, body: str, kind: str) -> tuple[str, str]:
        self.do(self.store.put_bytes(key, body.encode(), content_type=kind))
        self.model[key] = (body.encode(), kind)
        return key, self.written(key)

    @rule(target=etags, key=KEYS, body=TEXTS)
    def create(self, key: str, body: str) -> object:
        etag = self.do(self.store.put_if_match(key, body, None))
        assert (etag is not None) == (key not in self.model)
        if etag is None:
            return multiple()
        self.model[key] = (body.encode(), TEXT_CONTENT_TYPE)
        assert self.written(key) == etag
        return key, etag

    @rule(target=etags, known=consumes(etags), body=TEXTS)
    def replace(self, known: tuple[str, str], body: str) -> object:
        key, expected = known
        etag = self.do(self.store.put_if_match(key, body, expected))
        assert (etag is not None) == (self.current.get(key) == expected)
        if etag is None:
            return key, expected
        self.model[key] = (body.encode(), TEXT_CONTENT_TYPE)
        assert self.written(key) == etag
        return multiple((key, etag), known)

    @rule(keys=st.lists(KEYS, max_size=3))
    def delete_many(self, keys: list[str]) -> None:
        self.do(self.store.delete_many(keys))
        for key in keys:
            self.model.pop(key, None)
            self.current.pop(key, None)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.do(self.store.delete(key))
        self.model.pop(key, None)
        self.current.pop(key, None)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        value = self.model.get(key)
        text = None if value is None else value[0].decode()

        assert self.do(self.store.get_bytes(key)) == value
        assert self.do(self.store.get_string(key)) == text
        found = self.do(self.store.get_with_etag(key))
        assert found == (None if text is None else (text, self.current[key]))

    @rule(
        prefix=st.sampled_from(["", "a", "a/", "a/b", "é", "\U0010ffff", "x" * 250, "zz"]),
        start_after=st.none() | KEYS,
        limit=st.none() | st.integers(0, 3),
    )
    def list_keys(self, prefix: str, start_after: str | None, limit: int | None) -> None:
        expected = [
            key
            for key in sorted(self.model)
            if key.startswith(prefix) and (start_after is None or key > start_after)
        ]

        found = self.do(self.store.list_keys(prefix, start_after=start_after, limit=limit))
        assert found == expected[:limit]

    @rule()
    def close(self) -> None:
        self.do(self.store.close())

    @invariant()
    def every_key_is_listed(self) -> None:
        assert self.do(self.store.list_keys("")) == sorted(self.model)


class MemoryMachine(StoreMachine):
    def make(self, folder: Path) -> AbstractObjectStore:
        return MemoryObjectStore()


class SqliteMachine(StoreMachine):
    def make(self, folder: Path) -> AbstractObjectStore:
        return SqliteObjectStore(folder / "documents.sqlite")


class FilesystemMachine(StoreMachine):
    def make(self, folder: Path) -> AbstractObjectStore:
        return FilesystemObjectStore(folder)


class InProcessMachine(StoreMachine):
    def make(self, folder: Path) -> AbstractObjectStore:
        return InProcessCompareAndSwap(MemoryObjectStore())


TestMemoryMachine = MemoryMachine.TestCase
TestInProcessMachine = InProcessMachine.TestCase
TestSqliteMachine = SqliteMachine.TestCase
TestFilesystemMachine = FilesystemMachine.TestCase

# Each step of these waits for the disk.
TestSqliteMachine.settings = settings(max_examples=settings().max_examples // 2)
TestFilesystemMachine.settings = settings(max_examples=settings().max_examples // 4)

"""What every test of the projection runs under, and a store that can be told to misbehave."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from starfish_projection._list_storage import ListStorage
from starfish_protocol.hash import compute_hash
from starfish_protocol.plugins import WriteEvent
from starfish_server.storage.memory import MemoryObjectStore

pytest.register_assert_rewrite("starfish_server.testing")  # before anything imports it

_QUIET = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
settings.register_profile(
    "default", derandomize=True, deadline=None, max_examples=60, suppress_health_check=_QUIET
)
settings.register_profile("ci", deadline=None, max_examples=300, suppress_health_check=_QUIET)
settings.register_profile("deep", deadline=None, max_examples=3000, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _blocking_calls_fail() -> Iterator[None]:
    with blockbuster_ctx("starfish_projection"):
        yield


class ScriptedStore(MemoryObjectStore):
    """A memory store whose conditional writes can be watched, delayed, lost or broken."""

    def __init__(self, data: Mapping[str, str] | None = None) -> None:
        super().__init__(data)
        self.before_swap: Callable[[str], Any] | None = None
        """Awaited before each conditional write; may write, raise or wait."""
        self.written: list[str] = []
        """Keys of the conditional writes that succeeded."""
        self.read: list[str] = []
        """Keys that were read with an etag."""

    async def get_with_etag(self, key: str, *, context: Any = None) -> tuple[str, str] | None:
        self.read.append(key)
        return await super().get_with_etag(key, context=context)

    async def put_if_match(
        self, key: str, body: str, expected_etag: str | None, **options: Any
    ) -> str | None:
        if self.before_swap is not None:
            await self.before_swap(key)
        etag = await super().put_if_match(key, body, expected_etag, **options)
        if etag is not None:
            self.written.append(key)
        return etag

    async def document(self, key: str) -> dict[str, Any] | None:
        text = await self.get_string(key)
        return None if text is None else json.loads(text)

    async def items(self, key: str) -> list[tuple[str, Any]]:
        """The entries of a list, after checking that the document is one and its hash right."""
        text = await self.get_string(key)
        assert text is not None
        document = json.loads(await ListStorage(self, pieces_above_bytes=None).whole(key, text))
        assert list(document) == ["v", "data", "ts", "hash"]
        assert document["hash"] == compute_hash(document["data"])
        return [(entry["id"], entry["value"]) for entry in document["data"]["items"]]


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def stored_text() -> Callable[..., str]:
    """Text of a document as the server stores it."""

    def text(data: Any, ts: int = 1) -> str:
        document = {"v": 1, "data": data, "ts": ts, "hash": compute_hash(data)}
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False)

    return text


@pytest.fixture
def event() -> Callable[..., WriteEvent]:
    """An event of a push to ``notes/{note}``."""

    def make(note: str, body: Mapping[str, Any] | None = None, **fields: Any) -> WriteEvent:
        data = {} if body is None else dict(body)
        return WriteEvent(
            **{
                "collection": "notes",
                "hash": compute_hash(data),
                "timestamp": 1,
                "params": {"note": note},
                "body": data,
                "document_key": f"notes/{note}",
                **fields,
            }
        )

    return make

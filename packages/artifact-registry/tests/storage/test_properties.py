"""Laws that hold for every content, however it is cut and whichever part is asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_artifact_registry.storage import ContentBackend, LocalBackend
from starfish_artifact_registry.storage._stream import blocks
from starfish_artifact_registry.testing._backend_contract import read_all
from starfish_protocol.address import ContentAddress


def local(folder: Path) -> ContentBackend:
    return LocalBackend(folder)


def in_memory(_: Path) -> ContentBackend:
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    from obstore.store import MemoryStore

    from starfish_artifact_registry.storage.object_store import ObjectStoreBackend

    return ObjectStoreBackend(MemoryStore(), "memory")


EACH = pytest.mark.parametrize("make", [local, in_memory])
CHUNKS = st.lists(
    st.one_of(st.binary(max_size=200), st.integers(0, 70_000).map(lambda size: b"x" * size)),
    max_size=8,
)


async def stream(chunks: Sequence[bytes]) -> AsyncGenerator[bytes]:
    for chunk in chunks:
        yield chunk


@EACH
@given(chunks=CHUNKS, data=st.data())
async def test_any_part_of_any_stream_is_read_back(
    make: Callable[[Path], ContentBackend],
    chunks: list[bytes],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    backend = make(tmp_path_factory.mktemp("content"))
    whole = b"".join(chunks)
    stored = await backend.put(stream(chunks))
    start = data.draw(st.integers(0, len(whole) + 2), "start")
    end = data.draw(st.none() | st.integers(start, len(whole) + 4), "end")

    assert stored.address == ContentAddress.of(whole)
    assert stored.sha256 == ContentAddress.of(whole, "sha256")
    assert stored.size == len(whole)
    assert await read_all(backend, stored.address, start, end) == whole[start:end]


@given(chunks=CHUNKS, size=st.integers(1, 150_000))
@example(chunks=[b"ab", b"x" * 40_000, b"c", b"d"], size=40_002)
async def test_blocks_are_the_stream(chunks: list[bytes], size: int) -> None:
    cut = [b"".join(block) async for block in blocks(stream(chunks), size)]

    assert b"".join(cut) == b"".join(chunks)
    assert all(size <= len(block) < size + 70_000 for block in cut[:-1])
    assert len(cut[-1]) < size

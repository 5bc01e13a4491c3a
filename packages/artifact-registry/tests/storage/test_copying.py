"""A copy of all content: whole, repeatable, and never of damaged bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from starfish_artifact_registry.errors import ContentDamagedError
from starfish_artifact_registry.storage import ContentBackend, LocalBackend
from starfish_artifact_registry.storage._copying import CopyReport, copy_content
from starfish_artifact_registry.testing._backend_contract import content, read_all, stream_of
from starfish_protocol.address import ContentAddress


@pytest.fixture
def source(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "old", backend_id="old")


@pytest.fixture(params=["folder", "object store"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> ContentBackend:
    if request.param == "folder":
        return LocalBackend(tmp_path / "new")
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    from obstore.store import MemoryStore

    from starfish_artifact_registry.storage.object_store import ObjectStoreBackend

    return ObjectStoreBackend(MemoryStore(), "new")


async def addresses(backend: ContentBackend) -> set[ContentAddress]:
    return {entry.address async for entry in backend.list()}


async def test_everything_is_copied_once(source: LocalBackend, target: ContentBackend) -> None:
    data = [content(size, size) for size in (0, 10, 6_000_000)]
    for one in data:
        await source.put(stream_of(one))
    await target.put(stream_of(b"of its own"))
    seen: list[CopyReport] = []

    assert await copy_content(source, target, on_progress=seen.append) == CopyReport(
        3, 0, 6_000_010
    )
    assert [report.copied for report in seen] == [1, 2, 3]
    for one in data:
        assert await read_all(target, ContentAddress.of(one)) == one
    await source.put(stream_of(b"later"))
    assert await copy_content(source, target) == CopyReport(1, 3, 5)
    assert len(await addresses(target)) == 5


async def test_damaged_bytes_are_named_and_not_copied(
    source: LocalBackend, target: ContentBackend
) -> None:
    address = (await source.put(stream_of(b"evidence"))).address
    digits = address.digest.hex()
    (source.root / "blake3" / digits[:2] / digits).write_bytes(b"Evidence")

    with pytest.raises(ContentDamagedError) as caught:
        await copy_content(source, target)
    assert (caught.value.address, caught.value.backend_id) == (address, "old")
    assert caught.value.actual == ContentAddress.of(b"Evidence")
    assert await addresses(target) == set()

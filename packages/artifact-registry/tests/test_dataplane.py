"""The bytes' side of the registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.errors import ContentNotFoundError
from starfish_artifact_registry.storage import LocalBackend
from starfish_artifact_registry.testing import content, stream_of
from starfish_protocol.address import ContentAddress


@pytest.fixture
def dataplane(tmp_path: Path) -> InProcessDataPlane:
    return InProcessDataPlane(LocalBackend(tmp_path, backend_id="vault"))


def path_of(address: ContentAddress, root: Path) -> Path:
    digits = address.digest.hex()
    return root / "blake3" / digits[:2] / digits


async def test_bytes_go_in_and_come_out(dataplane: InProcessDataPlane) -> None:
    stored = await dataplane.put(stream_of(b"evidence"))

    assert dataplane.backend_id == dataplane.backend.backend_id == "vault"
    assert [chunk async for chunk in dataplane.read(stored.address)] == [b"evidence"]
    assert [chunk async for chunk in dataplane.read(stored.address, 2, 5)] == [b"ide"]
    with pytest.raises(ContentNotFoundError):
        await anext(dataplane.read(ContentAddress.of(b"other")))


async def test_intact_content_hashes_to_its_address(dataplane: InProcessDataPlane) -> None:
    stored = await dataplane.put(stream_of(content(3_000_000)))

    assert await dataplane.rehash(stored.address) == stored.address
    assert await dataplane.rehash(ContentAddress.of(b"other")) is None


@given(
    data=st.binary(min_size=1, max_size=3000),
    where=st.integers(min_value=0),
    change=st.sampled_from(["change", "cut", "add", "add at the end"]),
    byte=st.integers(0, 255),
)
async def test_one_byte_changed_cut_or_added_is_found(
    data: bytes,
    where: int,
    change: str,
    byte: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("content")
    dataplane = InProcessDataPlane(LocalBackend(root))
    address = (await dataplane.put(stream_of(data))).address
    position = where % len(data)
    before, found, after = data[:position], data[position], data[position + 1 :]
    damaged = {
        "change": before + bytes([found ^ (byte or 1)]) + after,
        "cut": before + after,
        "add": before + bytes([byte, found]) + after,
        "add at the end": data + bytes([byte]),
    }[change]
    path_of(address, root).write_bytes(damaged)

    assert await dataplane.rehash(address) == ContentAddress.of(damaged) != address


async def test_content_of_the_wrong_length_is_put_right_by_the_next_put(
    dataplane: InProcessDataPlane, tmp_path: Path
) -> None:
    data = content(5_000_000)
    stored = await dataplane.put(stream_of(data))
    path_of(stored.address, tmp_path).write_bytes(data[:-1])
    again = await dataplane.put(stream_of(data))

    assert not again.was_present
    assert await dataplane.rehash(stored.address) == stored.address

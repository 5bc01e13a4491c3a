"""What the registry does, sentence by sentence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from starfish_artifact_registry.registry import Registry
from starfish_protocol.address import ContentAddress

StreamOf = Callable[..., AsyncIterator[bytes]]
PACKAGE = {
    "name": "run 7",
    "producer": "sensor 3",
    "subject": "bridge",
    "retention_class": "raw-evidence",
    "actor": "ada",
}


async def test_a_finalized_package_is_read_back(registry: Registry, stream_of: StreamOf) -> None:
    package_id = await registry.create_package(**PACKAGE, metadata={"x": 1.0})
    file_id = await registry.ingest_file(
        package_id,
        relative_path="a/b.txt",
        media_type="text/plain",
        stream=stream_of(b"he", b"llo"),
        actor="ada",
    )
    address = await registry.finalize_package(package_id, actor="ada")

    data = await registry.get_manifest_bytes(package_id)

    assert ContentAddress.of(data) == address
    assert b"".join([chunk async for chunk in await registry.get_file(file_id)]) == b"hello"

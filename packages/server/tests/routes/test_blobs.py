"""Binary collections."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from starfish_protocol.testing import ManualClock
from starfish_server import ConfigError, StoreContext
from starfish_server.storage.base import AbstractObjectStore

PHOTOS = {"name": "photos", "storagePath": "photos/{photo}", "allowedMimeTypes": ["image/*"]}
CONTENT = b"0123456789"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


async def put(server: Any, content: bytes = CONTENT, content_type: str = "image/png") -> Any:
    return await server.client.post(
        "/push/photos/cat", content=content, headers={"content-type": content_type}
    )


async def test_bytes_come_back_with_their_type_and_hash(serve: Any) -> None:
    server = serve(PHOTOS, clock=ManualClock(5))

    pushed = await put(server)
    pulled = await server.get("/pull/photos/cat")

    assert pushed.json() == {"hash": DIGEST, "timestamp": 5}
    assert pulled.content == CONTENT
    assert pulled.headers["content-type"] == "image/png"
    assert pulled.headers["etag"] == f'"{DIGEST}"'
    assert pulled.headers["x-content-type-options"] == "nosniff"
    assert pulled.headers["content-security-policy"] == "sandbox"


async def test_the_last_one_to_write_wins(serve: Any) -> None:
    server = serve(PHOTOS)
    await put(server)
    await put(server, b"new", "image/gif")

    pulled = await server.get("/pull/photos/cat")
    assert (pulled.content, pulled.headers["content-type"]) == (b"new", "image/gif")


async def test_another_type_is_refused(serve: Any) -> None:
    server = serve(PHOTOS)

    for content_type in ("text/html", "image", "image/", "image/*", "application/json", ""):
        assert (await put(server, content_type=content_type)).status_code == 415
    assert (await server.get("/pull/photos/cat")).status_code == 404


async def test_an_unchanged_blob_is_304(serve: Any) -> None:
    server = serve(PHOTOS)
    await put(server)

    answer = await server.client.get("/pull/photos/cat", headers={"if-none-match": f'"{DIGEST}"'})

    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(
    ("wanted", "status", "content", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, CONTENT, "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-2", 200, CONTENT, None),
        ("bytes=-", 200, CONTENT, None),
        ("bytes=0-1,3-4", 200, CONTENT, None),
        ("lines=0-1", 200, CONTENT, None),
        ("bytes=" + "9" * 400 + "-", 200, CONTENT, None),
    ],
)
async def test_a_range(
    serve: Any, wanted: str, status: int, content: bytes | None, content_range: str | None
) -> None:
    server = serve(PHOTOS)
    await put(server)

    answer = await server.client.get("/pull/photos/cat", headers={"range": wanted})

    assert answer.status_code == status
    assert content is None or answer.content == content
    assert answer.headers.get("content-range") == content_range


async def test_a_range_of_another_version_is_all_of_this_one(serve: Any) -> None:
    server = serve(PHOTOS)
    await put(server)

    for tag, status in ((f'"{DIGEST}"', 206), ('"other"', 200)):
        headers = {"range": "bytes=0-1", "if-range": tag}
        assert (await server.client.get("/pull/photos/cat", headers=headers)).status_code == status


async def test_an_expired_blob_is_gone(serve: Any) -> None:
    clock = ManualClock(0)
    server = serve(PHOTOS | {"ttlMs": 10}, clock=clock)
    await put(server)
    clock.advance(9)
    pulled = await server.get("/pull/photos/cat")
    assert (pulled.status_code, pulled.headers["content-type"]) == (200, "image/png")
    clock.advance(1)

    assert (await server.get("/pull/photos/cat")).status_code == 404


async def test_a_large_blob_is_hashed_beside_the_event_loop(serve: Any) -> None:
    content = bytes(2_000_000)
    server = serve(PHOTOS | {"maxBodyBytes": 2_000_000})

    pushed = await put(server, content)

    assert pushed.json()["hash"] == hashlib.sha256(content).hexdigest()
    assert (await put(server, content + b"x")).status_code == 413


class TextStore(AbstractObjectStore):
    """Stores no bytes."""

    async def get_string(self, key: str, *, context: StoreContext | None = None) -> str | None:
        return None

    async def put(self, key: str, body: str, **_options: Any) -> None: ...

    async def list_keys(self, prefix: str, **_options: Any) -> list[str]:
        return []

    async def delete(self, key: str, *, context: StoreContext | None = None) -> None: ...

    async def delete_many(self, keys: Any, *, context: StoreContext | None = None) -> None: ...


async def test_a_store_without_bytes_is_refused_at_the_start(serve: Any) -> None:
    with pytest.raises(ConfigError, match="'photos' is binary, and TextStore stores no bytes"):
        serve(PHOTOS, store=TextStore())
    serve({}, store=TextStore())

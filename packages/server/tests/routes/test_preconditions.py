"""``If-Match`` and ``If-None-Match`` on writes: 412, decided in the store."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from starfish_server import SqliteObjectStore

APPEND = {"type": "by_timestamp", "requireAuthorSignature": False}
COLLECTIONS = (
    {"name": "notes", "storagePath": "notes/{id}"},
    {"name": "log", "storagePath": "log/{id}", "appendOnly": APPEND},
    {"name": "photos", "storagePath": "photos/{id}", "allowedMimeTypes": ["image/*"]},
    {"name": "cards", "storagePath": "cards/{id}", "fieldPermissions": {"pin": {"readRoles": []}}},
)
PULL = {"notes": "", "log": "?last=1", "photos": "", "cards": ""}
OTHER = '"' + "0" * 64 + '"'


@pytest.fixture
async def served(serve: Any, tmp_path: Path) -> Any:
    store = SqliteObjectStore(tmp_path / "documents.sqlite")
    yield serve(*COLLECTIONS, store=store)
    await store.close()


async def write(served: Any, path: str, n: int, **conditions: str) -> int:
    headers = {name.replace("_", "-"): value for name, value in conditions.items()}
    if path.startswith("photos"):
        sent: dict[str, Any] = {"content": b"%d" % n}
        headers["content-type"] = "image/png"
    else:
        base = None
        if path.startswith(("notes", "cards")):
            base = (await served.get(f"/pull/{path}")).json()["hash"] or None
        sent = {"json": {"data": {"n": n}, "baseHash": base}}
    answer = await served.client.post(f"/push/{path}", headers=headers, **sent)
    return int(answer.status_code)


async def etag(served: Any, path: str) -> str:
    return str(
        (await served.get(f"/pull/{path}{PULL[path.split('/', maxsplit=1)[0]]}")).headers["etag"]
    )


@pytest.mark.parametrize("name", PULL)
async def test_a_write_happens_only_over_the_version_that_was_read(served: Any, name: str) -> None:
    path = f"{name}/1"
    assert await write(served, path, 0, if_match=OTHER) == 412
    assert await write(served, path, 0, if_match="*") == 412
    assert await write(served, path, 1, if_none_match="*") == 200
    first = await etag(served, path)

    assert await write(served, path, 2, if_none_match="*") == 412
    assert await write(served, path, 2, if_match=OTHER) == 412
    assert await write(served, path, 2, if_none_match=f"{OTHER}, {first}") == 412
    assert await etag(served, path) == first

    assert await write(served, path, 2, if_match=f"{OTHER}, {first}") == 200
    assert await write(served, path, 3, if_match=first) == 412
    assert await write(served, path, 3, if_match="*") == 200


@pytest.mark.parametrize("name", ["notes", "photos", "log"])
async def test_of_simultaneous_creations_one_is_written(served: Any, name: str) -> None:
    path = f"{name}/1"
    statuses = await asyncio.gather(*(write(served, path, n, if_none_match="*") for n in range(8)))

    assert sorted(statuses) == [200] + [412] * 7


async def test_a_large_upload_is_stored_in_pieces_and_keeps_the_condition(
    serve: Any, tmp_path: Path
) -> None:
    store = SqliteObjectStore(tmp_path / "large.sqlite")
    served = serve({**COLLECTIONS[2], "maxBodyBytes": 5_000_000}, store=store)

    async def pieces() -> AsyncIterator[bytes]:
        for n in range(30):
            yield b"%02d" % n * 50_000

    async def upload(content: Any, **conditions: str) -> Any:
        headers = {"content-type": "image/png", **conditions}
        return await served.client.post("/push/photos/1", content=content, headers=headers)

    whole = b"".join([piece async for piece in pieces()])
    first = await upload(pieces(), **{"if-none-match": "*"})
    refused = await upload(pieces(), **{"if-none-match": "*"})
    too_large = await upload(b"x" * 5_000_001)
    pulled = await served.get("/pull/photos/1")
    part = await served.client.get("/pull/photos/1", headers={"range": "bytes=2999998-"})
    await store.close()

    assert first.json()["hash"] == hashlib.sha256(whole).hexdigest()
    assert (refused.status_code, too_large.status_code) == (412, 413)
    assert pulled.content == whole
    assert pulled.headers["content-length"] == str(len(whole))
    assert (part.status_code, part.content) == (206, b"29")

"""The log over HTTP as monitors of transparency logs read it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("cryptography", reason="the extra signing is not installed")
pytest.importorskip("httpx", reason="needs the group test-extra")

import httpx
from fastapi import FastAPI

from starfish_artifact_registry.http import NoteSigner
from starfish_artifact_registry.model._merkle import leaf_hash, root_of
from starfish_artifact_registry.transparency import SignedNote, TreeHead, note_key_of

SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/v1")


async def test_a_monitor_recomputes_the_signed_head_from_the_tiles(
    make_app: Callable[..., FastAPI], client: httpx.AsyncClient, package: str
) -> None:
    for number in range(3):
        await client.put(f"{package}/files/{number}", content=b"x")
    async with client_of(make_app(note_signer=NoteSigner("log.example", SEED))) as monitor:
        answer = await monitor.get("/tiles/checkpoint")
        note = SignedNote.decode(answer.content)
        note.check([note_key_of("log.example", SEED)])
        head = TreeHead.parse(note.text)
        assert (head.origin, head.size) == ("log.example", 4)
        tile = await monitor.get(f"/tiles/tile/0/000.p/{head.size}")
        entries = (await monitor.get(f"/tiles/tile/entries/000.p/{head.size}")).content

    hashes = [tile.content[at : at + 32] for at in range(0, len(tile.content), 32)]
    leaves = []
    while entries:
        length = int.from_bytes(entries[:2])
        leaves.append(leaf_hash(entries[2 : 2 + length]))
        entries = entries[2 + length :]
    assert root_of(hashes) == head.root_hash
    assert leaves == hashes
    assert "immutable" in tile.headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    ["0/000", "0/000.p/9", "0/001", "0/x001/000", "9/000", "0/0", "0/000.p/0", "0/000.p/256", "x",
     "entries/001", "1/000.p/1", "0/../000"],
)  # fmt: skip
async def test_what_is_not_there_yet_is_404(
    client: httpx.AsyncClient, package: str, path: str
) -> None:
    answer = await client.get(f"/tiles/tile/{path}")

    assert answer.status_code == 404
    assert package


async def test_without_a_signer_there_is_no_checkpoint(client: httpx.AsyncClient) -> None:
    assert (await client.get("/tiles/checkpoint")).status_code == 404


def test_a_signer_does_not_show_its_key() -> None:
    assert SEED not in repr(NoteSigner("log.example", SEED))

"""Certificates that are taken back: lists, their entries, who learns of it and when."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from starfish_protocol.revocation import build_revocation_list
from starfish_protocol.testing import ManualClock
from starfish_server import MemoryObjectStore
from starfish_server.auth.capabilities import KnownIssuers, StoredRevocations

from .conftest import HOST, NOW, Site, User

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "revocations.json").read_text())
NOTES = {
    "name": "notes",
    "storagePath": "notes/{identity}/{note}",
    "readRoles": ["self"],
    "writeRoles": ["self"],
}


def stored(
    store: MemoryObjectStore | None = None, clock: ManualClock | None = None, **options: Any
) -> StoredRevocations:
    clock = clock or ManualClock(NOW)
    store = store or MemoryObjectStore(clock=clock)
    return StoredRevocations(store, KnownIssuers(store), clock=clock, **options)


def entry(cap: dict[str, Any]) -> dict[str, Any]:
    return {"sub": cap.get("sub", ""), "nonce": cap["nonce"], "exp": cap["exp"]}


def list_of(
    user: User, generation: int, *caps: dict[str, Any], subjects: Any = None
) -> dict[str, Any]:
    return build_revocation_list(
        user.public, user.private, generation, [entry(cap) for cap in caps], subjects
    )


async def is_revoked(revocations: StoredRevocations, cap: dict[str, Any]) -> bool:
    return await revocations.is_revoked(cap["iss"], cap.get("sub", ""), cap["nonce"])


async def test_the_lists_of_the_vectors() -> None:
    """`after` is of a store that forgets; ours keeps each entry until it has run out."""
    revocations = stored()
    revoked: set[str] = set()

    for each in VECTORS["lists"]:
        accepted = await revocations.accept_list(each["list"])
        assert accepted.refusal is None, each["means"]
        assert accepted.generation == each["list"]["generation"]
        revoked |= {name for name, told in each["after"].items() if told}
        for name, cap in VECTORS["caps"].items():
            assert await is_revoked(revocations, cap) == (name in revoked), (each["means"], name)
    for each in VECTORS["thenRefused"]:
        accepted = await revocations.accept_list(each["list"])
        assert accepted.refusal == each["right"]["reason"], each["means"]
    assert VECTORS["retention"][0]["retainUntil"] - VECTORS["retention"][0]["exp"] == 300


@pytest.mark.parametrize(
    "given",
    [None, 7, [], "x", {}, {"v": 1}, {"v": 1, "iss": "0" * 64, "revoked": [1]}],
    ids=str,
)
async def test_anything_else_is_malformed(given: Any) -> None:
    assert (await stored().accept_list(given)).refusal == "malformed-shape"


async def test_an_entry_is_kept_until_its_certificate_has_run_out(user: User) -> None:
    clock = ManualClock(NOW)
    revocations = stored(clock=clock)
    cap = user.cap(exp=NOW // 1000 + 100)
    await revocations.accept_list(list_of(user, 1, cap))

    await revocations.accept_list(list_of(user, 2))
    assert await is_revoked(revocations, cap)
    clock.advance(400_000)  # it is honoured for 300 seconds longer than it says
    await revocations.accept_list(list_of(user, 3))
    assert await is_revoked(revocations, cap)
    clock.advance(1_000)
    await revocations.accept_list(list_of(user, 4))
    assert not await is_revoked(revocations, cap)


async def test_two_servers_on_one_store_know_within_a_second(user: User) -> None:
    clock = ManualClock(NOW)
    store = MemoryObjectStore(clock=clock)
    one, other = stored(store, clock), stored(store, clock)
    cap, later = user.cap(), user.cap()
    assert not await is_revoked(other, cap)

    await one.accept_list(list_of(user, 1, cap))
    assert await is_revoked(one, cap)
    clock.advance(500)
    assert await is_revoked(other, cap)
    await other.accept_list(list_of(user, 2, later))
    clock.advance(500)
    assert await is_revoked(one, later)


async def test_of_two_lists_at_once_nothing_is_lost(user: User) -> None:
    store = MemoryObjectStore(clock=ManualClock(NOW))
    one, other = stored(store), stored(store)
    caps = [user.cap() for _ in range(20)]

    accepted = await asyncio.gather(
        *(
            (one if n % 2 else other).accept_list(list_of(user, n + 1, cap))
            for n, cap in enumerate(caps)
        )
    )

    for told, cap in zip(accepted, caps, strict=True):
        if told.refusal is None:
            assert await is_revoked(stored(store), cap)
        else:
            assert told.refusal == "stale-generation"


async def test_strangers_make_room_for_users_who_are_known() -> None:
    store = MemoryObjectStore(clock=ManualClock(NOW))
    revocations = stored(store, max_issuers=3)
    known, stranger = User.new(), User.new()
    await KnownIssuers(store).add(known.id)
    await revocations.accept_list(list_of(known, 1, known.cap()))
    for _ in range(5):
        other = User.new()
        assert (await revocations.accept_list(list_of(other, 1))).refusal is None

    again = await revocations.accept_list(list_of(known, 2))
    assert again.refusal is None
    keys = await store.list_keys("~revocations/")
    assert len(keys) == 3
    assert f"~revocations/{known.public}" in keys
    for user in [User.new() for _ in range(3)]:
        await KnownIssuers(store).add(user.id)
        assert (await revocations.accept_list(list_of(user, 1))).refusal is None
    assert (await revocations.accept_list(list_of(stranger, 1))).refusal == "too-many-issuers"


async def test_the_route_answers_each_outcome(open_site: Any, user: User) -> None:
    site: Site = await open_site(NOTES)
    good = list_of(user, 5, user.cap())

    async def post(content: Any) -> tuple[int, Any]:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        answer = await site.client.post("/revocations", content=raw)
        return answer.status_code, answer.json()

    assert await post(good) == (200, {"ok": True, "generation": 5})
    assert await post(good) == (409, {"error": "stale-generation", "generation": 5})
    assert await post({**good, "generation": 6}) == (403, {"error": "bad-signature"})
    assert await post({**good, "v": 2}) == (400, {"error": "malformed-shape"})
    assert await post(b"[" * 100_000) == (400, {"error": "malformed-shape"})
    assert await post(b'{"generation": 1e400}') == (400, {"error": "malformed-shape"})
    assert (await post(b"x" * 1_048_577))[0] == 413
    statuses = [(await post(b"{}"))[0] for _ in range(60)]
    assert statuses[-1] == 429


async def test_the_next_request_is_refused(open_site: Any, user: User) -> None:
    site: Site = await open_site(NOTES)
    phone, laptop = User.new(), User.new()
    lost, kept = user.cap(phone), user.cap(laptop)
    assert (await site.push(f"notes/{user.id}/1", {"n": 1}, lost, phone)).status_code == 200

    taken_back = list_of(user, 1, subjects=[{"sub": phone.public, "exp": lost["exp"]}])
    assert (await site.client.post("/revocations", json=taken_back)).status_code == 200

    answer = await site.get(f"/pull/notes/{user.id}/1", lost, phone)
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})
    assert (await site.get(f"/pull/notes/{user.id}/1", kept, laptop)).status_code == 200


async def test_a_damaged_list_lets_nobody_in(open_site: Any, user: User) -> None:
    site: Site = await open_site(NOTES)
    await site.store.put(f"~revocations/{user.public}", "not a list")

    answer = await site.get(f"/pull/notes/{user.id}/1", user.cap(), user)

    assert (answer.status_code, answer.json()) == (503, {"error": "document_damaged"})


async def test_without_certificates_there_is_no_such_route(serve_without: Any) -> None:
    assert (await serve_without.post("/revocations", json={})).status_code == 404


@pytest.fixture
async def serve_without() -> Any:
    import httpx

    from starfish_server.app import create_app
    from starfish_server.config import parse_config

    app = create_app(parse_config({"collections": [NOTES]}), store=MemoryObjectStore())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
        yield client

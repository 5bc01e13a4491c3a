"""What the server says about itself."""

from __future__ import annotations

from typing import Any

from starfish_protocol.testing import ManualClock
from starfish_server import ConfigEndpointOptions, MemoryObjectStore, StoreUnavailableError

COLLECTIONS = (
    {"name": "open", "storagePath": "open"},
    {"name": "own", "storagePath": "own/{identity}", "readRoles": ["self"], "writeRoles": []},
    {"name": "staff", "storagePath": "staff", "readRoles": ["staff"], "writeRoles": ["staff"],
     "pullOnly": True, "ttlMs": 5, "forceFullFetch": True},
)  # fmt: skip


async def test_health(serve: Any) -> None:
    server = serve(clock=ManualClock(7), namespaces={"acme": []})

    for path in ("/health", "/acme/health"):
        assert (await server.get(path)).json() == {"ok": True, "ts": 7}


async def test_config_is_off_unless_asked_for(serve: Any) -> None:
    assert (await serve(*COLLECTIONS).get("/config")).status_code == 404


async def test_a_public_config_shows_every_collection(serve: Any) -> None:
    log = {"name": "log", "storagePath": "log", "appendOnly": {"type": "by_timestamp"}}
    server = serve(*COLLECTIONS, log, config_endpoint=ConfigEndpointOptions(auth="public"))

    shown = (await server.get("/config")).json()["collections"]

    common = {
        "maxBodyBytes": 1_048_576,
        "encryption": "none",
        "allowedMimeTypes": ["application/json"],
    }
    assert shown[0] == {"name": "open", **common}
    assert shown[2] == {
        "name": "staff", **common, "pullOnly": True, "ttlMs": 5, "forceFullFetch": True,
    }  # fmt: skip
    assert shown[3]["appendOnly"] == {
        "type": "by_timestamp", "field": "items", "persist": True,
        "requireAuthorSignature": True, "allowFull": True,
    }  # fmt: skip


async def test_a_filtered_config_shows_what_the_caller_may_use(serve: Any) -> None:
    server = serve(*COLLECTIONS, config_endpoint=ConfigEndpointOptions(auth="role-filtered"))

    async def names(**headers: str) -> list[str]:
        answer = await server.get("/config", **headers)
        return [each["name"] for each in answer.json()["collections"]]

    assert await names() == ["open"]
    assert await names(user="ada") == ["open", "own"]
    assert await names(user="ada", roles="staff") == ["open", "own", "staff"]


async def test_ready_says_whether_the_store_answers(serve: Any) -> None:
    class Failing(MemoryObjectStore):
        fails = False

        async def ping(self) -> None:
            if self.fails:
                raise StoreUnavailableError("here", "it is gone")

    store = Failing()
    served = serve({}, store=store, namespaces={"acme": [{}]})

    assert (await served.get("/ready")).status_code == 200
    store.fails = True
    assert (await served.get("/ready")).status_code == 503
    assert (await served.get("/acme/ready")).status_code == 503
    assert (await served.get("/health")).status_code == 200


async def test_a_damaged_member_leaves_its_bundle_and_its_listing_readable(serve: Any) -> None:
    bundled = [{"name": n, "storagePath": "card/{id}", "bundle": "b"} for n in ("good", "bad")]
    store = MemoryObjectStore()
    served = serve(
        *bundled,
        {"name": "l", "storagePath": "l/{id}", "listable": True, "ttlMs": 10**9},
        store=store,
    )
    await served.push("card/1/good", {"a": 1})
    await served.push("l/1", {})
    await store.put("card/1/bad", "no document")
    await store.put("l/2", "no document")

    members = (await served.get("/pull/card/1")).json()["collections"]
    assert members["good"]["data"] == {"a": 1}
    assert members["bad"] == {"error": "document_damaged"}
    assert "1" in (await served.get("/list/l")).json()["items"]


async def test_the_limit_of_the_server_counts_every_route(serve: Any) -> None:
    paths = (
        "/health",
        "/pull/nothing/here",
        "/pull/notes/1",
        "/nowhere",
        "/batch/pull?collections=x",
    )
    for path in paths:
        served = serve({}, server_rate_limit={"windowMs": 60_000, "maxRequests": 3})
        statuses = [(await served.get(path)).status_code for _ in range(5)]
        assert 429 not in statuses[:3], path
        assert statuses[3:] == [429, 429], path
        answer = await served.get(path)
        assert answer.json() == {"error": "Rate limit exceeded"}
        assert 1 <= int(answer.headers["retry-after"]) <= 60

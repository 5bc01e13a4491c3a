"""Signed requests beside the vectors: order of the checks, bodies, hosts, hostile headers, logs, roles."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
from typing import Any

import pytest

from starfish_http.callers.nonces import MemoryNonces, NonceLimits
from starfish_protocol.testing import ManualClock
from starfish_server import MemoryObjectStore
from starfish_server.auth.capabilities import Capabilities
from starfish_server.config.schema import CapabilitiesConfig
from starfish_server.storage.sqlite import SqliteObjectStore

from .conftest import HOST, NOW, Signed, Site, User

NOTES = {
    "name": "notes",
    "storagePath": "notes/{identity}/{note}",
    "readRoles": ["self"],
    "writeRoles": ["self"],
}
SHARED = {
    "name": "shared",
    "storagePath": "shared/{note}",
    "readRoles": ["cap:read:shared", "cap:read:*"],
    "writeRoles": ["cap:write:shared", "cap:write:*"],
}
PHOTOS = {
    **SHARED,
    "name": "photos",
    "storagePath": "photos/{photo}",
    "allowedMimeTypes": ["image/*"],
}
UNAUTHORIZED = (401, {"error": "Unauthorized"})
FORBIDDEN = (403, {"error": "Forbidden"})


def told(answer: Any) -> tuple[int, Any]:
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 200),
        ({"ts": NOW - 300_001}, 401),
        ({"ts": NOW + 300_001}, 401),
        ({"host": "other.example"}, 401),
        ({"host": ""}, 401),
        ({"host": "SYNC.example"}, 401),
        ({"nonce": b""}, 401),
        ({"nonce": b"x" * 15}, 401),
        ({"nonce": b"x" * 3000}, 401),
        ({"sent_body": b'{"data":{"n":2},"baseHash":null}'}, 401),
        ({"more": {"X-Starfish-Ts": "9" * 100_000}}, 401),
        ({"more": {"X-Starfish-Ts": "١٢٣"}}, 401),
        ({"more": {"X-Starfish-Sig": "AAAA"}}, 401),
        ({"more": {"X-Starfish-Nonce": "AAAAAAAAAAAAAAAAAAAAAB=="}}, 401),
    ],
    ids=[
        "good", "old", "ahead", "host", "no-host", "host-case", "empty-nonce", "short-nonce", "long-nonce", "body",
        "endless-time", "foreign-digits", "signature", "unused-bits",
    ],
)  # fmt: skip
async def test_one_thing_that_is_wrong_refuses_all(
    open_site: Any, user: User, change: dict[str, Any], expected: int
) -> None:
    site: Site = await open_site(NOTES)
    more = change.pop("more", {})
    if "X-Starfish-Ts" in more and not more["X-Starfish-Ts"].isascii():
        more = {"X-Starfish-Ts": more["X-Starfish-Ts"].encode()}

    answer = await site.push(f"notes/{user.id}/1", {"n": 1}, user.cap(), user, more=more, **change)

    assert answer.status_code == expected
    if expected == 401:
        assert answer.json() == {"error": "Unauthorized"}
        assert (await site.get(f"/pull/notes/{user.id}/1", user.cap(), user)).json()["hash"] == ""


@pytest.mark.parametrize(
    "cap",
    [
        b"[]", b"7", b"null", b"{", b'{"a":1e400}', b'{"a":NaN}', b'{"v":1,"kind":"device"}',
        b'{"v":' + b"9" * 5000 + b"}", b"[" * 3000, b'"\\ud800"', b"\xff\xfe",
        b'{"v":1,"kind":"device","scope":{"ops":[[]]}}',
    ],
    ids=[
        "list", "number", "null", "cut", "infinite", "nan", "bare", "digits", "deep", "surrogate", "bytes", "ops",
    ],
)  # fmt: skip
async def test_whatever_a_certificate_is_the_answer_is_401(
    open_site: Any, user: User, cap: bytes
) -> None:
    site: Site = await open_site(NOTES)
    headers = Signed(user.cap(), "GET", f"/pull/notes/{user.id}/1", user).headers()
    headers["Authorization"] = "Cap " + base64.b64encode(cap).decode()

    assert told(await site.client.get(f"/pull/notes/{user.id}/1", headers=headers)) == UNAUTHORIZED


async def test_a_refused_request_leaves_its_nonce_unused(open_site: Any, user: User) -> None:
    """Only an admitted request takes room, so nobody can fill it without rights."""
    site: Site = await open_site(NOTES)
    other, nonce = User.new(), b"n" * 16

    refused = await site.get(f"/pull/notes/{other.id}/1", user.cap(), user, nonce=nonce)
    good = await site.get(f"/pull/notes/{user.id}/1", user.cap(), user, nonce=nonce)
    replayed = await site.get(f"/pull/notes/{user.id}/1", user.cap(), user, nonce=nonce)

    assert told(refused) == FORBIDDEN
    assert good.status_code == 200
    assert told(replayed) == UNAUTHORIZED


async def test_a_replay_is_refused_by_every_server_on_the_store(
    open_site: Any, user: User, tmp_path: Any
) -> None:
    path = tmp_path / "documents.sqlite"
    one: Site = await open_site(NOTES, store=SqliteObjectStore(path))
    other: Site = await open_site(NOTES, store=SqliteObjectStore(path))
    signed = Signed(user.cap(), "GET", f"/pull/notes/{user.id}/1", user, nonce=b"n" * 16)

    answers = await asyncio.gather(*(site.send(signed) for site in (one, other) * 4))

    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


async def test_a_replayed_batch_is_anonymous(open_site: Any, user: User) -> None:
    site: Site = await open_site(NOTES)
    sets = [{"note": "1", "identity": user.id}]
    params = json.dumps({"notes": sets}, separators=(",", ":"))
    target = f"/batch/pull?collections=notes&params={params.replace(chr(34), '%22')}"

    first, second = [
        (await site.get(target, user.cap(), user, nonce=b"n" * 16)).json()["collections"]["notes"]
        for _ in range(2)
    ]

    assert first[0]["data"] == {}
    assert second == [{"error": "Forbidden"}]


async def test_a_stream_uses_its_nonce_up_before_it_begins(
    open_site: Any, user: User, follow: Any
) -> None:
    site: Site = await open_site(NOTES)
    signed = Signed(user.cap(), "GET", "/events", user, nonce=b"n" * 16)

    async with follow(site, signed) as first:
        assert first.status == 200
        async with follow(site, signed) as second:
            assert second.status == 401


async def test_a_json_push_must_say_that_it_is_json(open_site: Any, user: User) -> None:
    """F13: the collection decides which body is signed, not the media type of the request."""
    site: Site = await open_site(SHARED)
    evil = b'{"data":{"evil":1},"baseHash":null}'

    for media_type in (
        "text/plain; a=application/json",
        "application/json-patch+json",
        "image/png",
    ):
        answer = await site.send(
            Signed(
                user.cap(), "POST", "/push/shared/1", user,
                sent_body=evil, more={"Content-Type": media_type},
            )
        )  # fmt: skip
        assert told(answer) == (415, {"error": "Content-Type must be application/json"})
    pulled = await site.get("/pull/shared/1", user.cap(), user)
    assert pulled.json()["hash"] == ""


@pytest.mark.parametrize("wants_signed", [False, True])
async def test_an_upload_is_signed_over_its_bytes_or_over_nothing(
    open_site: Any, user: User, *, wants_signed: bool
) -> None:
    site: Site = await open_site(PHOTOS, capabilities={"requireSignedBlobs": wants_signed})
    png = {"Content-Type": "image/png"}

    async def upload(signed_body: bytes, sent: bytes) -> int:
        signed = Signed(user.cap(), "POST", "/push/photos/1", user, body=signed_body, more=png)
        signed.sent_body = sent
        return (await site.send(signed)).status_code

    assert await upload(b"bytes", b"bytes") == 200
    assert await upload(b"bytes", b"other") == 401
    assert await upload(b"", b"bytes") == (401 if wants_signed else 200)


async def test_a_compressed_body_is_signed_as_it_was_sent(open_site: Any, user: User) -> None:
    site: Site = await open_site(SHARED)
    body = gzip.compress(b'{"data":{"n":1},"baseHash":null}')
    more = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    def signed(sent: bytes) -> Signed:
        return Signed(
            user.cap(), "POST", "/push/shared/1", user, body=body, sent_body=sent, more=more
        )

    assert (await site.send(signed(gzip.compress(b"{}")))).status_code == 401
    assert (await site.send(signed(body))).status_code == 200
    assert (await site.get("/pull/shared/1", user.cap(), user)).json()["data"] == {"n": 1}


@pytest.mark.parametrize(
    ("hosts", "line", "signed_for", "status"),
    [
        (["sync.example"], "sync.example:443", "sync.example", 200),
        (["sync.example"], "inner:8000", "sync.example", 200),
        (["a.example", "b.example:8443"], "inner", "b.example:8443", 200),
        (["a.example", "b.example"], "a.example", "b.example", 401),
        (["a.example"], "evil.example", "evil.example", 401),
        ([], "127.0.0.1:8000", "127.0.0.1:8000", 200),
        ([], "localhost:1", "localhost:1", 200),
        ([], "[::1]:8000", "[::1]:8000", 200),
        ([], "sync.example", "sync.example", 401),
        ([], "127.0.0.1.evil.example", "127.0.0.1.evil.example", 401),
    ],
)
async def test_a_signature_holds_for_the_hosts_of_the_configuration(
    open_site: Any, user: User, *, hosts: list[str], line: str, signed_for: str, status: int
) -> None:
    site: Site = await open_site(NOTES, capabilities={"publicHosts": hosts})
    target = f"/pull/notes/{user.id}/1"
    signed = Signed(user.cap(), "GET", target, user, host=signed_for, more={"Host": line})

    assert (await site.send(signed)).status_code == status


async def test_a_percent_encoded_path_is_verified_as_it_was_sent(
    open_site: Any, user: User
) -> None:
    site: Site = await open_site(NOTES)
    plain = f"/pull/notes/{user.id}/a@b"

    assert (await site.get(plain.replace("@", "%40"), user.cap(), user)).status_code == 200
    signed = Signed(user.cap(), "GET", plain, user)
    headers = signed.headers()
    answer = await site.client.get(plain.replace("@", "%40"), headers=headers)
    assert answer.status_code == 401


async def test_roles_of_certificates_count_for_trusted_issuers_only(
    open_site: Any, user: User, guest: User
) -> None:
    root = {**NOTES, "name": "vault", "storagePath": "vault/{identity}", "rootOnly": True}
    site: Site = await open_site(SHARED, root, capabilities={"trustedIssuers": [user.id]})
    local: Site = await open_site({**SHARED, "trustedIssuers": [user.id]}, root)

    for each in (site, local):
        assert (await each.get("/pull/shared/1", user.cap(), user)).status_code == 200
        assert told(await each.get("/pull/shared/1", guest.cap(), guest)) == FORBIDDEN
    assert (await site.get(f"/pull/vault/{user.id}", user.cap(), user)).status_code == 200
    assert told(await site.get(f"/pull/vault/{guest.id}", guest.cap(), guest)) == FORBIDDEN
    assert (await local.get(f"/pull/vault/{guest.id}", guest.cap(), guest)).status_code == 200


async def test_a_member_needs_no_collection_but_paths_and_operations(
    open_site: Any, user: User, guest: User
) -> None:
    """Spaces label their certificates with a name that is not a collection here."""

    async def enrich(auth: Any, _params: Any) -> list[str]:
        return ["space:member"] if "delegated:" in str(auth.roles) else []

    spaces = {**SHARED, "name": "spaces", "storagePath": "spaces/{space}/{item}"}
    spaces |= {"readRoles": ["space:member"], "writeRoles": ["space:member"]}
    site: Site = await open_site(spaces, role_enricher=enrich)
    member = {"kind": "member", "collections": ["content"], "paths": ["spaces/1/**"]}
    reader = user.cap(guest, ops=["read"], **member)

    assert (await site.get("/pull/spaces/1/a", reader, guest)).status_code == 200
    assert told(await site.get("/pull/spaces/2/a", reader, guest)) == FORBIDDEN
    assert told(await site.push("spaces/1/a", {}, reader, guest)) == FORBIDDEN
    writer = user.cap(guest, ops=["read", "write"], **member)
    assert (await site.push("spaces/1/a", {}, writer, guest)).status_code == 200


@pytest.mark.parametrize(
    ("members", "lifetime", "status"),
    [({}, 5000, 200), ({}, 3600, 401), ({"exp": NOW // 1000 - 301}, None, 401), ({"nbf": NOW // 1000 + 301}, None, 401)],
    ids=["good", "long", "expired", "early"],
)  # fmt: skip
async def test_a_certificate_has_a_window(
    open_site: Any, user: User, members: dict[str, Any], lifetime: int | None, status: int
) -> None:
    site: Site = await open_site(NOTES, capabilities={"maxCapLifetimeSeconds": lifetime})
    cap = user.cap(**({"nbf": NOW // 1000 - 1000} | members))

    assert (await site.get(f"/pull/notes/{user.id}/1", cap, user)).status_code == status


async def test_a_remembered_certificate_runs_out(open_site: Any, user: User) -> None:
    site: Site = await open_site(NOTES)
    cap = user.cap(exp=NOW // 1000 + 60)
    target = f"/pull/notes/{user.id}/1"
    assert (await site.get(target, cap, user)).status_code == 200

    site.clock.advance(360_000)
    assert (await site.get(target, cap, user)).status_code == 200
    site.clock.advance(1_000)
    assert told(await site.get(target, cap, user)) == UNAUTHORIZED


async def test_without_anonymous_callers_each_request_needs_a_credential(
    open_site: Any, user: User
) -> None:
    board = {**SHARED, "readRoles": ["admin"]}
    site: Site = await open_site(board, NOTES, capabilities={"allowAnonymous": False})

    assert told(await site.client.get("/pull/shared/1")) == UNAUTHORIZED
    assert (await site.get(f"/pull/notes/{user.id}/1", user.cap(), user)).status_code == 200


async def test_full_is_503_and_never_401(open_site: Any, user: User, guest: User) -> None:
    clock = ManualClock(NOW)
    store = MemoryObjectStore(clock=clock)
    capabilities = Capabilities.of(
        CapabilitiesConfig(publicHosts=[HOST]),
        store,
        nonces=MemoryNonces(NonceLimits(of_strangers=2)),
        clock=clock,
    )
    site: Site = await open_site(NOTES, store=store, clock=clock, given=capabilities)
    mine, theirs = f"notes/{user.id}/1", f"/pull/notes/{guest.id}/1"

    assert (await site.push(mine, {}, user.cap(), user)).status_code == 200
    taken = await site.get(theirs, guest.cap(), guest)
    refused = await site.get(theirs, guest.cap(), guest)

    assert (taken.status_code, refused.status_code) == (200, 503)
    assert refused.headers["retry-after"] == "60"
    # Who has written something is not a stranger any more.
    assert (await site.get(f"/pull/{mine}", user.cap(), user)).status_code == 200


async def test_logs_hold_no_secret(
    open_site: Any, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site: Site = await open_site(NOTES)
    cap = user.cap()
    signed = Signed(cap, "GET", f"/pull/notes/{user.id}/1", user, ts=NOW - 400_000)
    for _ in range(3):
        await site.send(signed)
    await site.get(f"/pull/notes/{user.id}/1", {**cap, "sig": "A" * 86 + "=="}, user)
    await site.push(f"notes/{user.id}/1", {"pin": "a-secret-body"}, cap, user)

    text = caplog.text
    reasons = [r for r in caplog.records if "signed request is refused" in r.getMessage()]
    assert len(reasons) == 2  # once a reason and a minute
    assert not any(record.exc_info for record in reasons)
    for secret in (
        cap["sig"],
        cap["nonce"],
        user.private,
        "a-secret-body",
        *signed.headers().values(),
    ):
        assert secret not in text or secret.isdigit()

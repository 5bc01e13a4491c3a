"""A certificate is held against every key that a request reaches, by whatever route."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from starfish_protocol.revocation import build_revocation_list

from .conftest import NOW, Signed, Site, User

ROLES = {"readRoles": ["everybody"], "writeRoles": ["everybody"]}
APPEND = {"requireAuthorSignature": False}
COLLECTIONS: list[dict[str, Any]] = [
    {**ROLES, "name": "notes", "storagePath": "notes/{id}", "listable": True},
    {**ROLES, "name": "keys", "storagePath": "notes/{id}/_keyring"},
    {**ROLES, "name": "log", "storagePath": "log/{id}", "appendOnly": APPEND},
    {**ROLES, "name": "photos", "storagePath": "photos/{id}", "allowedMimeTypes": ["text/*"]},
    {**ROLES, "name": "front", "storagePath": "card/{id}", "bundle": "card"},
    {**ROLES, "name": "back", "storagePath": "card/{id}", "bundle": "card"},
]
KEYS = {
    "notes/a": "notes",
    "notes/b": "notes",
    "notes/a/_keyring": "keys",
    "log/a": "log",
    "photos/a": "photos",
    "card/a/front": "front",
    "card/a/back": "back",
}
OWNER, GUEST = User.new(), User.new()


async def everybody(_auth: Any, _params: Any) -> list[str]:
    return ["everybody"]


@pytest.fixture
async def site(open_site: Any) -> Site:
    """A server with a document under each key, which says where it stands."""
    site: Site = await open_site(*COLLECTIONS, role_enricher=everybody)
    whole = OWNER.cap()
    for key, name in KEYS.items():
        if name == "photos":
            more = {"Content-Type": "text/plain"}
            body = json.dumps({"of": key}, separators=(",", ":")).encode()
            signed = Signed(whole, "POST", f"/push/{key}", OWNER, body=body, more=more)
            pushed = await site.send(signed)
        else:
            pushed = await site.push(key, {"of": key}, whole, OWNER)
        assert pushed.status_code == 200, pushed.text
    return site


SEGMENTS = st.sampled_from(
    ["notes", "a", "b", "_keyring", "log", "photos", "card", "front", "*", "**"]
)
GLOBS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join) | st.sampled_from(["**", *KEYS])
PATHS = st.lists(st.tuples(st.sampled_from(["", "", "!"]), GLOBS).map("".join), max_size=4)
SCOPES = st.fixed_dictionaries(
    {
        "ops": st.sets(st.sampled_from(["read", "write", "list"])).map(sorted),
        "collections": st.sampled_from([["*"], ["notes"], ["keys", "log"], []]),
        "paths": st.none() | PATHS,
    }
)


class Model:
    """The rules of a scope, written as plainly as can be."""

    def __init__(self, kind: str, scope: dict[str, Any]) -> None:
        self.kind = kind
        self.scope = scope

    def allows(self, op: str, key: str, name: str | None = None) -> bool:
        scope = self.scope
        if op not in scope["ops"]:
            return False
        names = scope["collections"]
        if self.kind == "device" and name is not None and "*" not in names and name not in names:
            return False
        if not scope["paths"]:
            return self.kind == "device"
        denied = [path[1:] for path in scope["paths"] if path.startswith("!")]
        allowed = [path for path in scope["paths"] if not path.startswith("!")]
        if any(_matches(path, key) or _matches(f"{path}/**", key) for path in denied):
            return False
        return any(_matches(path, key) for path in allowed)


def _matches(glob: str, key: str) -> bool:
    parts = re.split(r"(\*\*|\*)", glob)
    pattern = "".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(pattern, key) is not None


def told_of(text: str) -> set[str]:
    return set(re.findall(r'"of":"([^"]+)"', text))


def batch_target(names: list[str]) -> str:
    sets = {name: [{"id": "a"}, {"id": "b"}] for name in names}
    bounds = {"log": [{"last": 9}, {"last": 9}]}
    return (
        f"/batch/pull?collections={','.join(names)}&params={quote(json.dumps(sets))}"
        f"&appendParams={quote(json.dumps(bounds))}"
    )


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["device", "member"]), scope=SCOPES)
async def test_no_route_reaches_beyond_the_scope(
    site: Site, kind: str, scope: dict[str, Any]
) -> None:
    model = Model(kind, scope)
    if kind == "member":  # a certificate that shares names one collection and no list of members
        scope["collections"] = ["content"]
    cap = OWNER.cap(GUEST, kind=kind, **scope)
    note(f"{kind} {scope}")

    async def get(target: str) -> tuple[int, str]:
        answer = await site.get(target, cap, GUEST)
        return answer.status_code, answer.text

    status, _ = await get("/pull/notes/zz")
    if status == 401:  # the shape of the certificate itself is refused: it reaches nothing
        for target in ("/pull/notes/a", "/list/notes", "/pull/card/a"):
            assert (await get(target))[0] == 401
        return

    for key, name in KEYS.items():
        if name in {"front", "back"}:
            continue
        query = "?last=9" if name == "log" else ""
        status, text = await get(f"/pull/{key}{query}")
        expected = model.allows("read", key, name)
        assert (status, told_of(text)) == ((200, {key}) if expected else (403, set())), key

    status, text = await get("/pull/notes/a?withKeyring=1")
    wanted = {
        key for key in ("notes/a", "notes/a/_keyring") if model.allows("read", key, KEYS[key])
    }
    assert told_of(text) == (wanted if "notes/a" in wanted else set())

    _, text = await get("/pull/card/a")
    members = {key for key in KEYS if key.startswith("card/")}
    assert told_of(text) == {key for key in members if model.allows("read", key, KEYS[key])}

    _, text = await get(batch_target(["notes", "keys", "log", "front"]))
    batched = {key for key, name in KEYS.items() if name in {"notes", "log"}}
    assert told_of(text) == {key for key in batched if model.allows("read", key, KEYS[key])}

    status, text = await get("/list/notes")
    if model.allows("list", "notes", "notes"):
        below = [key for key in KEYS if key.startswith("notes/")]
        listed = [key[6:] for key in sorted(below) if model.allows("list", key, KEYS[key])]
        assert json.loads(text)["items"] == listed
    else:
        assert status == 403

    await assert_writes_stay_within(site, model, cap)


async def assert_writes_stay_within(site: Site, model: Model, cap: dict[str, Any]) -> None:
    for key, name in KEYS.items():
        if name == "photos":
            more = {"Content-Type": "text/plain", "If-None-Match": "*"}
            signed = Signed(cap, "POST", f"/push/{key}", GUEST, body=b"x", more=more)
            status = (await site.send(signed)).status_code
            assert status == (412 if model.allows("write", key, name) else 403)
        elif name != "log":
            pushed = await site.push(key, {}, cap, GUEST, base="0" * 64)
            assert pushed.status_code == (409 if model.allows("write", key, name) else 403), key


@pytest.mark.parametrize(
    "paths",
    [["**"], ["notes/*", "!notes/b"], ["**/*a"], ["card/a/front", "log/**"], ["!notes", "**"]],
    ids=str,
)
async def test_a_stream_tells_of_the_keys_in_scope_only(
    site: Site, follow: Any, paths: list[str]
) -> None:
    model = Model("device", {"ops": ["read"], "collections": ["*"], "paths": paths})
    expected = {key for key, name in KEYS.items() if model.allows("read", key, name)}
    cap = OWNER.cap(GUEST, ops=["read"], paths=paths)

    async with follow(site, Signed(cap, "GET", "/events?since=0", GUEST)) as stream:
        told = await stream.events(len(expected))

    assert {event["key"] for event in told} == expected


async def test_a_stream_ends_when_its_certificate_is_taken_back(site: Site, follow: Any) -> None:
    cap = OWNER.cap(GUEST)
    entry = {"sub": cap["sub"], "nonce": cap["nonce"], "exp": cap["exp"]}
    listed = build_revocation_list(OWNER.public, OWNER.private, 1, [entry])

    async with follow(site, Signed(cap, "GET", "/events", GUEST)) as stream:
        assert stream.status == 200
        assert (await site.client.post("/revocations", json=listed)).status_code == 200
        await site.push("notes/c", {"of": "notes/c"}, OWNER.cap(), OWNER)
        await stream.end()

    assert "notes/c" not in stream.text


async def test_a_quiet_stream_ends_within_a_second_of_its_certificates_end(
    site: Site, follow: Any
) -> None:
    cap = OWNER.cap(GUEST, exp=NOW // 1000 + 60)

    async with follow(site, Signed(cap, "GET", "/events", GUEST)) as stream:
        site.clock.advance(361_000)
        await stream.end()


async def test_a_keyring_is_read_as_if_it_were_asked_for_by_itself(open_site: Any) -> None:
    """F26: the roles of the keyring's own collection decide, also beside a public document."""
    board = {
        "name": "board", "storagePath": "board/{id}", "readRoles": ["public"], "writeRoles": ["public"],
        "keyringPath": "secret/{id}", "cacheDurationMs": 5000,
    }  # fmt: skip
    keys = {
        "name": "keys",
        "storagePath": "secret/{id}",
        "readRoles": ["cap:read:*"],
        "writeRoles": ["cap:write:*"],
    }
    site: Site = await open_site(board, keys)
    await site.client.post("/push/board/1", json={"data": {"n": 1}, "baseHash": None})

    nothing_yet = await site.get("/pull/board/1?withKeyring=1", OWNER.cap(), OWNER)
    await site.push("secret/1", {"epochs": {}}, OWNER.cap(), OWNER)
    with_cap = await site.get("/pull/board/1?withKeyring=True", OWNER.cap(), OWNER)
    etag = {"If-None-Match": with_cap.headers["etag"]}
    again = await site.get("/pull/board/1?withKeyring=1", OWNER.cap(), OWNER, more=etag)
    anonymous = await site.client.get("/pull/board/1?withKeyring=1")
    denied = await site.get("/pull/board/1?withKeyring=1", OWNER.cap(paths=["board/**"]), OWNER)

    assert nothing_yet.json()["keyring"] is None
    assert with_cap.json()["keyring"]["data"] == {"epochs": {}}
    assert with_cap.headers["cache-control"] == "private, no-store"
    assert again.status_code == 200
    assert "keyring" not in anonymous.json()
    assert "keyring" not in denied.json()
    target = f"/batch/pull?collections=keys&params={quote(json.dumps({'keys': [{'id': '1'}]}))}"
    batched = await site.get(target, OWNER.cap(), OWNER)
    assert batched.json() == {"collections": {"keys": [{"error": "Forbidden"}]}}


@pytest.mark.parametrize(
    ("restrictions", "expected"),
    [
        ([{"mode": "deny", "identities": [GUEST.id]}], [200, 403, 200]),
        ([{"mode": "allow", "identities": [OWNER.id]}], [200, 403, 403]),
        ([{"mode": "deny", "identities": [OWNER.id], "actions": ["push"]}], [200, 200, 200]),
        (
            [
                {"mode": "allow", "identities": [OWNER.id, GUEST.id]},
                {"mode": "deny", "identities": [OWNER.id]},
            ],
            [403, 200, 403],
        ),
    ],
    ids=["deny", "allow", "of-pushes", "a-denial-wins"],
)
@pytest.mark.parametrize("level", ["server", "collection"])
async def test_restrictions_hold_for_public_collections_too(
    open_site: Any, restrictions: Any, expected: list[int], level: str
) -> None:
    board = {
        "name": "board",
        "storagePath": "board/{id}",
        "readRoles": ["public"],
        "writeRoles": ["public"],
    }
    if level == "collection":
        site: Site = await open_site({**board, "restrictions": restrictions})
    else:
        site = await open_site(board, top={"restrictions": restrictions})

    answers = [
        await site.get("/pull/board/1", OWNER.cap(), OWNER),
        await site.get("/pull/board/1", GUEST.cap(), GUEST),
        await site.client.get("/pull/board/1"),
    ]

    assert [answer.status_code for answer in answers] == expected
    for answer in answers:
        if answer.status_code == 403:
            assert answer.json() == {"error": "identity restricted"}
    bad = await site.get("/pull/board/1", OWNER.cap(), GUEST)
    assert bad.status_code == 401


async def test_a_namespace_is_served_below_v1_as_its_clients_ask(open_site: Any) -> None:
    notes = {
        "name": "notes",
        "storagePath": "notes/{id}",
        "readRoles": ["cap:read:*"],
        "writeRoles": ["cap:write:*"],
    }
    site: Site = await open_site(top={"namespaces": {"acme": {"collections": [notes]}}})
    body = b'{"data":{"n":1},"baseHash":null}'
    more = {"Content-Type": "application/json"}

    pushed = await site.send(
        Signed(OWNER.cap(), "POST", "/v1/acme/push/notes/1", OWNER, body=body, more=more)
    )
    plain = await site.get("/acme/pull/notes/1", OWNER.cap(), OWNER)
    below = await site.get("/v1/acme/pull/notes/1", OWNER.cap(), OWNER)

    assert pushed.status_code == 200
    assert plain.json()["data"] == below.json()["data"] == {"n": 1}
    assert (await site.get("/pull/notes/1", OWNER.cap(), OWNER)).status_code == 404


async def test_a_removal_needs_the_rights_of_a_push(open_site: Any) -> None:
    notes = {**ROLES, "name": "notes", "storagePath": "notes/{id}", "deletable": True}
    site: Site = await open_site(notes, role_enricher=everybody)
    pushed = await site.push("notes/a", {"n": 1}, OWNER.cap(), OWNER)
    target = f"/push/notes/a?baseHash={pushed.json()['hash']}"

    async def remove(**members: Any) -> int:
        cap = OWNER.cap(GUEST, **members)
        return (await site.send(Signed(cap, "DELETE", target, GUEST))).status_code

    assert await remove(ops=["read", "list"]) == 403
    assert await remove(paths=["notes/b"]) == 403
    assert await remove(collections=["log"]) == 403
    assert await remove() == 200


async def test_a_ticket_of_a_certificate_opens_one_stream(site: Site, follow: Any) -> None:
    cap = OWNER.cap(GUEST, paths=["notes/a"])
    asked = await site.send(Signed(cap, "POST", "/events/ticket", GUEST))
    ticket = asked.json()["ticket"]
    unsigned = Signed(cap, "GET", f"/events?since=0&ticket={ticket}", GUEST)
    unsigned.headers = dict  # type: ignore[method-assign]  # a browser sends no header of its own

    async with follow(site, unsigned) as stream:
        told = await stream.events(1)
        async with follow(site, unsigned) as second:
            assert second.status == 401

    assert [event["key"] for event in told] == ["notes/a"]

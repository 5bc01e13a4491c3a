"""``DELETE /push/<path>``: a document reads as never written, and everything that follows knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from starfish_protocol.plugins import PushHookResult, ServerPlugin, WriteEvent
from starfish_protocol.testing import ManualClock
from starfish_server import (
    AbstractObjectStore,
    ConfigError,
    MemoryObjectStore,
    SqliteObjectStore,
)
from starfish_server.storage.errors import OutcomeUnknownError

NOTES = {"name": "notes", "storagePath": "notes/{id}", "deletable": True, "listable": True}
PHOTOS = {
    "name": "photos",
    "storagePath": "photos/{id}",
    "allowedMimeTypes": ["image/*"],
    "deletable": True,
}
STORES: dict[str, Callable[[Path], AbstractObjectStore]] = {
    "memory": lambda _path: MemoryObjectStore(),
    "sqlite": lambda path: SqliteObjectStore(path / "documents.sqlite"),
}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    store = STORES[request.param](tmp_path)
    yield store
    await store.close()


async def delete(served: Any, path: str, **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await served.client.delete(f"/push/{path}", headers=names)


async def written(served: Any, path: str) -> str:
    if path.startswith("photos"):
        answer = await served.client.post(
            f"/push/{path}", content=b"123", headers={"content-type": "image/png"}
        )
    else:
        answer = await served.push(path, {"n": 1})
    assert answer.status_code == 200
    return str(answer.json()["hash"])


@pytest.mark.parametrize("path", ["notes/1", "photos/1"])
@pytest.mark.parametrize("by", ["base_hash", "if_match", "any"])
async def test_a_document_is_removed_by_its_version(
    serve: Any, store: Any, path: str, by: str
) -> None:
    served = serve(NOTES, PHOTOS, store=store)
    hash_ = await written(served, path)
    if by == "base_hash":
        answer = await delete(served, f"{path}?baseHash={hash_}")
    else:
        answer = await delete(served, path, if_match="*" if by == "any" else f'"{hash_}"')

    assert (answer.status_code, answer.json()["hash"]) == (200, "")
    pulled = await served.get(f"/pull/{path}")
    if path.startswith("notes"):
        assert (pulled.json()["data"], pulled.json()["hash"]) == ({}, "")
        assert (await served.get("/list/notes")).json()["items"] == []
        assert (await served.push(path, {"n": 2}, hash_)).status_code == 409
    else:
        assert pulled.status_code == 404
    assert await written(served, path) == hash_


@pytest.mark.parametrize("path", ["notes/1", "photos/1"])
async def test_another_version_stays(serve: Any, store: Any, path: str) -> None:
    served = serve(NOTES, PHOTOS, store=store)
    hash_ = await written(served, path)

    conflict = await delete(served, f"{path}?baseHash={'0' * 64}")
    stale = await delete(served, path, if_match='"' + "0" * 64 + '"')
    unnamed = await delete(served, path)

    assert (conflict.status_code, conflict.json()) == (
        409,
        {"error": "hash_mismatch", "currentHash": hash_},
    )
    assert stale.status_code == 412
    assert (unnamed.status_code, unnamed.json()["error"]) == (428, "precondition_required")
    assert (await served.get(f"/pull/{path}")).headers["etag"] == f'"{hash_}"'


@pytest.mark.parametrize("path", ["notes/1", "photos/1"])
async def test_nothing_can_be_removed_where_nothing_is(serve: Any, store: Any, path: str) -> None:
    served = serve(NOTES, PHOTOS, store=store)

    conflict = await delete(served, f"{path}?baseHash={'0' * 64}")
    assert (conflict.status_code, conflict.json()["currentHash"]) == (409, "")
    assert (await delete(served, path, if_match="*")).status_code == 412
    assert store.changes is None or (await store.changes.read(None, 10)).changes == []


async def test_without_a_condition_only_where_the_collection_says_so(
    serve: Any, store: Any
) -> None:
    served = serve({**NOTES, "unconditionalDeletes": True}, store=store)
    hash_ = await written(served, "notes/1")

    assert (await delete(served, f"notes/1?baseHash={'0' * 64}")).status_code == 409
    assert (await delete(served, "notes/1")).status_code == 200
    assert (await delete(served, "notes/1")).status_code == 200  # nothing is there; as asked for
    assert (await served.get("/pull/notes/1")).json()["hash"] == ""
    assert len(hash_) == 64


async def test_it_is_off_unless_the_collection_says_so(serve: Any) -> None:
    served = serve({})
    answer = await delete(served, "notes/ada?baseHash=x")

    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


async def test_it_takes_the_rights_of_a_push(serve: Any) -> None:
    served = serve({**NOTES, "writeRoles": ["editor"]})
    pushed = await served.push("notes/1", {}, roles="editor", user="eve")
    path = f"notes/1?baseHash={pushed.json()['hash']}"

    assert (await delete(served, path)).status_code == 401
    assert (await delete(served, path, x_user="ada")).status_code == 403
    assert (await delete(served, path, x_user="eve", x_roles="editor")).status_code == 200


async def test_a_caller_who_may_not_pull_learns_nothing(serve: Any) -> None:
    served = serve({**NOTES, "readRoles": [], "unconditionalDeletes": True})
    await served.push("notes/1", {})

    answers = [await delete(served, f"notes/{n}?baseHash={'0' * 64}") for n in (1, 2)]
    assert [each.json() for each in answers] == [{"error": "hash_mismatch"}] * 2
    gone = [(await delete(served, f"notes/{n}")).json()["hash"] for n in (1, 2)]
    assert gone == ["", ""]


async def test_every_field_must_be_writable(serve: Any) -> None:
    fields = {"pin": {"writeRoles": ["admin"]}, "salt": {"readRoles": ["x"], "writeRoles": ["x"]}}
    served = serve({**NOTES, "fieldPermissions": fields})
    pushed = await served.push("notes/1", {"text": "hi"})
    path = f"notes/1?baseHash={pushed.json()['hash']}"

    refused = await delete(served, path)
    hidden = await delete(served, path, x_user="a", x_roles="admin")
    assert (refused.status_code, refused.json()) == (
        403,
        {"error": "Field not writable", "field": "pin"},
    )
    assert (hidden.status_code, hidden.json()) == (403, {"error": "Field not writable"})
    whole = (await served.get("/pull/notes/1", user="a", roles="x,admin")).json()["hash"]
    done = await delete(served, f"notes/1?baseHash={whole}", x_user="a", x_roles="admin,x")
    assert done.status_code == 200


async def test_who_does_not_see_every_field_names_the_version_by_its_token(serve: Any) -> None:
    served = serve({**NOTES, "fieldPermissions": {"pin": {"readRoles": ["x"]}}})
    pushed = await served.push("notes/1", {"pin": 1}, user="a", roles="x")
    token = (await served.get("/pull/notes/1")).json()["hash"]

    content = await delete(served, f"notes/1?baseHash={pushed.json()['hash']}")
    assert (content.status_code, content.json()["currentHash"]) == (409, token)
    assert (await delete(served, "notes/1", if_match=f'"{token}"')).status_code == 200


async def test_a_member_of_a_bundle(serve: Any) -> None:
    member = {"storagePath": "u/{id}", "bundle": "user", "deletable": True}
    served = serve({**member, "name": "profile"}, {**member, "name": "settings"})
    hashes = [
        (await served.push(f"u/1/{name}", {"n": 1})).json()["hash"]
        for name in ("profile", "settings")
    ]
    before = await served.get("/pull/u/1")

    assert (await delete(served, f"u/1/profile?baseHash={hashes[0]}")).status_code == 200
    after = await served.get("/pull/u/1")
    assert after.json()["collections"] == {
        "profile": {"data": {}, "hash": ""},
        "settings": {"data": {"n": 1}, "hash": hashes[1]},
    }
    assert after.headers["etag"] != before.headers["etag"]


async def test_the_log_has_a_tombstone_and_the_feed_tells_it(
    serve: Any, store: Any, stream: Any
) -> None:
    served = serve(NOTES, PHOTOS, store=store)
    async with stream(served) as events:
        for path in ("notes/1", "photos/1"):
            hash_ = await written(served, path)
            removed = await delete(served, f"{path}?baseHash={hash_}", x_user="ada")
            told = (await events.events(2))[-1]
            assert told == {
                "collection": path.partition("/")[0],
                "key": path,
                "hash": "",
                "timestamp": removed.json()["timestamp"],
                "deleted": True,
            } | ({"identity": "ada"} if "identity" in told else {})
    page = await store.changes.read(None, 10)
    assert [(each.key, each.is_deleted) for each in page.changes] == [
        ("notes/1", False),
        ("notes/1", True),
        ("photos/1", False),
        ("photos/1", True),
    ]


async def test_what_has_expired_is_not_there(serve: Any) -> None:
    clock = ManualClock()
    served = serve({**NOTES, "ttlMs": 1000}, {**PHOTOS, "ttlMs": 1000}, clock=clock)
    for path in ("notes/1", "photos/1"):
        hash_ = await written(served, path)
        clock.advance(1000)
        answer = await delete(served, f"{path}?baseHash={hash_}")
        assert (answer.status_code, answer.json()["currentHash"]) == (409, "")


async def test_plugins_are_asked_and_told(serve: Any) -> None:
    asked: list[tuple[str, bool]] = []
    told: list[WriteEvent] = []

    def gate(context: Any) -> PushHookResult:
        asked.append((context.raw_body, context.is_delete))
        refused = context.is_delete and context.params["id"] == "kept"
        return (
            PushHookResult("reject", status=403, error="no")
            if refused
            else PushHookResult("proceed")
        )

    plugin = ServerPlugin(name="gate", intercept_push=gate, after_write=told.append)
    served = serve(NOTES, plugins=[plugin])
    for name in ("kept", "gone"):
        await served.push(f"notes/{name}", {})

    assert (await delete(served, "notes/kept", if_match="*")).status_code == 403
    assert (await delete(served, "notes/gone", if_match="*")).status_code == 200
    assert asked[2:] == [("", True), ("", True)]
    assert (told[-1].document_key, told[-1].body, told[-1].hash) == ("notes/gone", None, "")
    assert [each.is_deleted for each in told] == [False, False, True]


@pytest.mark.parametrize("path", ["notes/1", "photos/1"])
async def test_of_simultaneous_deletes_and_writes_each_sees_the_other(
    serve: Any, store: Any, path: str
) -> None:
    served = serve(NOTES, PHOTOS, store=store)
    hash_ = await written(served, path)

    answers = await asyncio.gather(*(delete(served, path, if_match=f'"{hash_}"') for _ in range(8)))
    assert sorted(each.status_code for each in answers) == [200] + [412] * 7


async def test_a_lost_answer_is_no_conflict_with_oneself(serve: Any) -> None:
    class Forgetful(MemoryObjectStore):
        losses = 2

        async def remove(self, key: str, **options: Any) -> Any:
            self.losses -= 1
            if self.losses == 1:
                raise OutcomeUnknownError(key, 0, "lost on the way there")
            removed = await super().remove(key, **options)
            if self.losses == 0:
                raise OutcomeUnknownError(key, 0, "lost on the way back")
            return removed

    store = Forgetful()
    served = serve(NOTES, store=store)
    hash_ = await written(served, "notes/1")

    assert (await delete(served, f"notes/1?baseHash={hash_}")).status_code == 200
    assert store.losses == 0


def test_a_store_that_cannot_remove_one_version_is_refused(serve: Any) -> None:
    class Old(AbstractObjectStore):
        async def get_string(self, key: str, **_options: Any) -> None:
            return None

        async def put(self, key: str, body: str, **_options: Any) -> None: ...
        async def list_keys(self, prefix: str, **_options: Any) -> list[str]:
            return []

        async def delete(self, key: str, **_options: Any) -> None: ...
        async def delete_many(self, keys: Any, **_options: Any) -> None: ...

    with pytest.raises(ConfigError, match="cannot remove one version"):
        serve(NOTES, store=Old())


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"pullOnly": True}, "takes no writes"),
        ({"appendOnly": {"type": "by_timestamp"}}, "only grow"),
        ({"deletable": False, "unconditionalDeletes": True}, "nothing can be removed"),
    ],
    ids=["pull only", "append-only", "not deletable"],
)
def test_what_could_not_be_served_is_refused(
    serve: Any, fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        serve({**NOTES, "listable": None, **fields})

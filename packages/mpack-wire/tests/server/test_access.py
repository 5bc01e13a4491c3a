"""Who sees what, and what nobody can find out."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra server")

from starfish_mpack_wire._model.object_ids import blob_id
from starfish_mpack_wire.server import Tokens
from starfish_protocol.testing import ManualClock

UNKNOWN = "sha256:" + "0" * 64
CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/fetch", {"want": [UNKNOWN]}),
    ("POST", "/fetch", b"\xc1"),
    ("POST", "/fetch", b"x" * 3_000_000),
    ("POST", "/blobs", {"object_ids": [UNKNOWN]}),
    ("GET", "/refs", None),
    ("POST", "/push/presign", {"mpack_id": UNKNOWN, "size_bytes": 1}),
    ("POST", "/push/unpack", {"mpack_id": UNKNOWN, "branch": "main"}),
    ("GET", f"/packs/{UNKNOWN}", None),
    ("PUT", f"/uploads/{UNKNOWN}?expires=99999999999999&size=1&signature=00", b"x"),
]


async def test_rule_03_private_and_unknown_answer_with_the_same_bytes_and_headers(
    wire: Any, story: Any
) -> None:
    private = await wire.create("private", private=True)
    await wire.push(story.pack(story.line(1)[0]))
    unknown = private.replace("private", "unknown")
    stranger = await Tokens(wire.rows).create("stranger")

    for token, status in ((None, 404), ("mpt_" + "x" * 43, 401), (stranger, 404)):
        for accept in ("application/json", "application/x-msgpack"):
            for method, path, body in CALLS:
                answers = [
                    await wire.call(
                        method, path, body, repo=repo, token=token, headers={"Accept": accept}
                    )
                    for repo in (private, unknown)
                ]
                assert [each.status for each in answers] == [status, status], path
                assert answers[0].content == answers[1].content
                assert dict(answers[0].headers) == dict(answers[1].headers)


async def test_rule_03_who_may_read_and_not_write_gets_403(wire: Any, story: Any) -> None:
    head = story.line(1)[0]
    await wire.push(story.pack(head))
    stranger = await Tokens(wire.rows).create("stranger")

    for token in (None, stranger):
        assert (await wire.call("GET", "/refs", token=token)).status == 200
        assert (await wire.call("POST", "/fetch", {"want": [head]}, token=token)).status == 200
        for path, body in (
            ("/push/presign", {"mpack_id": UNKNOWN, "size_bytes": 1}),
            ("/push/unpack", {"mpack_id": UNKNOWN, "branch": "main"}),
        ):
            refused = await wire.call("POST", path, body, token=token)
            assert (refused.status, refused.body["error"]) == (403, "forbidden")


async def test_rule_03_no_route_maps_a_pack_id_to_bytes_without_the_check_of_the_repository(
    wire: Any, story: Any
) -> None:
    head = story.line(1)[0]
    public = wire.repo
    private = await wire.create("private", private=True)
    await wire.push(story.pack(head))
    fetched = await wire.fetch(head)
    mpack_id = fetched.body["mpack_id"]

    own = await wire.call("GET", f"/packs/{mpack_id}")
    without = await wire.call("GET", f"/packs/{mpack_id}", token=None)
    elsewhere = await wire.call("GET", f"/packs/{mpack_id}", repo=public)

    assert own.status == 200
    assert blob_id(own.content) == mpack_id
    assert (without.status, elsewhere.status) == (404, 404)
    assert private in fetched.body["mpack_url"] or "X-Amz-Signature" in fetched.body["mpack_url"]


async def test_a_download_resumes_by_range(serve: Any, story: Any, backend: str) -> None:
    if backend == "postgres-s3":
        pytest.skip("that storage serves its own downloads")
    clock = ManualClock()
    async with serve(clock=clock) as wire:
        await wire.create("private", private=True)
        head = story.line(3)[-1]
        await wire.push(story.pack(head))
        answer = await wire.fetch(head)
        url, size = answer.body["mpack_url"], answer.body["size_bytes"]
        whole = await wire.http.get(url)

        async def get(**headers: str) -> Any:
            return await wire.http.get(
                url, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )

        part = await get(Range="bytes=10-19")
        rest = await get(Range=f"bytes={size - 5}-", If_Range=whole.headers["etag"])
        other = await get(Range="bytes=0-4", If_Range='"another"')
        behind = await get(Range=f"bytes={size}-")
        same = await get(If_None_Match=whole.headers["etag"])
        forged = await wire.http.get(url[:-1] + ("0" if url[-1] != "0" else "1"))
        longer = await wire.http.get(url.replace("expires=", "expires=9"))
        clock.advance(300_000)
        late = await wire.http.get(url)

    assert whole.status_code == 200
    assert whole.headers["etag"] == f'"{answer.body["mpack_id"]}"'
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{size}"
    assert (rest.status_code, rest.content) == (206, whole.content[-5:])
    assert (other.status_code, other.content) == (200, whole.content)
    assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{size}")
    assert (same.status_code, same.content) == (304, b"")
    assert [each.status_code for each in (forged, longer, late)] == [404] * 3


async def test_urls_of_private_repositories_live_shortly(serve: Any, story: Any) -> None:
    head = story.line(1)[0]
    async with serve() as wire:
        lifetimes = []
        for private in (True, False):
            await wire.create(f"repo-{private}", private=private)
            await wire.push(story.pack(head))
            answer = await wire.fetch(head)
            from starfish_protocol.clock import SystemClock

            lifetimes.append(answer.body["expires_at"] - SystemClock().now_ms())

    assert 0 < lifetimes[0] <= 300_000 < lifetimes[1] <= 3_600_000


async def test_refs_have_an_etag(wire: Any, story: Any) -> None:
    empty = await wire.call("GET", "/refs")
    await wire.push(story.pack(story.line(1)[0]))
    full = await wire.call("GET", "/refs")
    same = await wire.call("GET", "/refs", headers={"If-None-Match": full.headers["etag"]})
    stale = await wire.call("GET", "/refs", headers={"If-None-Match": empty.headers["etag"]})

    assert empty.body == {"default_branch": "main", "branches": {}, "tags": {}}
    assert (same.status, same.content) == (304, b"")
    assert stale.status == 200


async def test_a_token_is_kept_as_its_hash_and_expires(serve: Any) -> None:
    clock = ManualClock()
    async with serve(clock=clock) as wire:
        await wire.create("private", private=True)
        tokens = Tokens(wire.rows, clock=clock)
        brief = await tokens.create(wire.owner, expires_ms=clock.now_ms() + 1000)
        before = await wire.call("GET", "/refs", token=brief)
        clock.advance(1000)
        after = await wire.call("GET", "/refs", token=brief)
        assert await tokens.owner_of("mpt_short") is None
        revoked = await tokens.revoke_all(wire.owner)
        gone = await wire.call("GET", "/refs")

    assert (before.status, after.status, gone.status) == (200, 401, 401)
    assert revoked == 2


async def test_health_answers(wire: Any) -> None:
    answer = await wire.http.get("/health")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_odd_names_are_names_of_nothing(wire: Any) -> None:
    for repo in ("/a%00b/notes", "/%F0%9F%98%80/notes", "/" + "x" * 3000 + "/notes", "/../notes"):
        answer = await wire.call("GET", "/refs", repo=repo)
        assert answer.status == 404
    for name in ("a\x00b", "../main", "", "x" * 10_000):
        answer = await wire.fetch(want_refs=[name])
        assert (answer.status, answer.body["error"]) == (404, "unknown_want")

"""Finding, verifying, proving and keeping packages over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from starfish_artifact_registry.proof import verify_proof

PACKAGE: dict[str, Any] = {
    "name": "night shift", "producer": "camera 7", "subject": "gate",
    "retention_class": "raw-evidence",
}  # fmt: skip


async def test_a_package_tells_about_itself_and_its_files(
    client: httpx.AsyncClient, package: str
) -> None:
    for path in ("b", "a/c", "a"):
        await client.put(f"{package}/files/{path}", content=path.encode())

    shown = (await client.get(package)).json()
    files = (await client.get(f"{package}/files")).json()

    assert (shown["status"], shown["file_count"], shown["total_bytes"]) == ("created", 3, 5)
    assert isinstance(shown["created_at"], int)
    assert [file["relative_path"] for file in files["files"]] == ["a", "a/c", "b"]
    assert files["next"] is None


async def test_lists_are_paged_by_key(client: httpx.AsyncClient, package: str) -> None:
    for number in range(4):
        await client.post("/packages", json={**PACKAGE, "name": f"day {number}"})
        await client.put(f"{package}/files/{number}", content=b"x")

    for path, key, name in (
        ("/packages", "packages", "name"),
        (f"{package}/files", "files", "relative_path"),
    ):
        whole = (await client.get(path)).json()[key]
        found: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = (await client.get(path, params={"limit": 2, **after})).json()
            found += [each[name] for each in page[key]]
            assert len(page[key]) <= 2
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert found == [each[name] for each in whole]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"name": "night shift"}, 1),
        ({"producer": "camera 7", "status": "created"}, 2),
        ({"status": "deleted"}, 0),
        ({"metadata": '{"case": 12}'}, 1),
        ({"metadata": '{"case": "12"}'}, 0),
        ({"created_before": 0}, 0),
        ({"created_after": 0, "subject": "gate"}, 2),
    ],
)
async def test_packages_are_found_by_what_they_are(
    client: httpx.AsyncClient, package: str, query: dict[str, Any], count: int
) -> None:
    await client.post("/packages", json={**PACKAGE, "name": "day", "metadata": {"case": 12}})

    answer = await client.get("/packages", params=query)

    assert (answer.status_code, len(answer.json()["packages"])) == (200, count)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"status": "lost"}, 422),
        ({"limit": 0}, 422),
        ({"limit": 1001}, 422),
        ({"after": "x"}, 422),
        ({"after": str(uuid4())}, 400),
        ({"metadata": "["}, 400),
        ({"metadata": "[1]"}, 400),
        ({"metadata": "[" * 4000}, 400),
        ({"name": "a\0"}, 400),
        ({"created_after": 10**18}, 422),
    ],
)
async def test_a_query_that_is_none_is_refused(
    client: httpx.AsyncClient, query: dict[str, Any], status: int
) -> None:
    answer = await client.get("/packages", params=query)

    assert answer.status_code == status
    assert answer.json()["error"] in {"invalid_query", "invalid_request"}


async def test_a_changed_byte_is_named(
    client: httpx.AsyncClient, package: str, tmp_path: Path
) -> None:
    made = await client.put(f"{package}/files/clip", content=b"x" * 100_000)
    before = (await client.post(f"{package}/verify")).json()
    stored = next(file for file in (tmp_path / "content/blake3").rglob("*") if file.is_file())
    stored.write_bytes(b"y" + stored.read_bytes()[1:])

    after = (await client.post(f"{package}/verify")).json()

    assert (before["ok"], before["files_checked"]) == (True, 1)
    assert (after["ok"], after["changed"]) == (False, ["clip"])
    read = await client.get(f"/files/{made.json()['file_id']}")
    assert (read.status_code, read.json()["error"]) == (500, "content_damaged")


async def test_a_proof_holds_without_the_service(client: httpx.AsyncClient, package: str) -> None:
    early = await client.get(f"{package}/proof")
    digest = (await client.post(f"{package}/finalize")).json()["manifest_digest"]

    proof = verify_proof((await client.get(f"{package}/proof")).content)

    assert (early.status_code, early.json()["error"]) == (409, "illegal_package_state")
    assert str(proof.manifest_digest) == digest


async def test_holds_and_dates_decide_what_may_go(client: httpx.AsyncClient, package: str) -> None:
    await client.post(f"{package}/finalize")
    because = {"reason": "trial"}
    held = await client.post(f"{package}/holds", json=because)
    hold = f"{package}/holds/{held.json()['hold_id']}/release"
    while_held = await client.post(f"{package}/delete", json=because)
    released = await client.post(hold, json=because)
    again = await client.post(hold, json=because)
    too_early = await client.post(f"{package}/expire")

    assert (held.status_code, released.status_code) == (201, 204)
    assert (while_held.status_code, while_held.json()["error"]) == (409, "package_held")
    assert (again.status_code, again.json()["error"]) == (404, "hold_not_found")
    assert (too_early.status_code, too_early.json()["error"]) == (409, "retention_period")
    assert json.loads((await client.get(package)).text)["holds"] == []

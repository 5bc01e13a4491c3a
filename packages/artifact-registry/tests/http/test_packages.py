"""Packages over HTTP: made, filled, finalized, read."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import pytest
from blake3 import blake3

from starfish_artifact_registry.manifest import decode

PACKAGE: dict[str, Any] = {
    "name": "night shift", "producer": "camera 7", "subject": "gate",
    "retention_class": "raw-evidence",
}  # fmt: skip


async def test_a_package_is_made_filled_and_finalized(client: httpx.AsyncClient) -> None:
    made = await client.post("/packages", json={**PACKAGE, "metadata": {"case": 12}})
    package = made.headers["location"].removeprefix("/v1")
    added = await client.put(
        f"{package}/files/logs/day 1.txt", content=b"hello", headers={"content-type": "text/plain"}
    )
    closed = await client.post(f"{package}/finalize")

    assert (made.status_code, added.status_code, closed.status_code) == (201, 201, 200)
    assert package == f"/packages/{made.json()['package_id']}"
    assert added.json()["relative_path"] == "logs/day 1.txt"
    assert added.headers["location"] == f"/v1/files/{added.json()['file_id']}"
    manifest = await client.get(f"{package}/manifest", headers={"accept": "application/cbor"})
    digest = f"blake3:{blake3(manifest.content).hexdigest()}"
    assert closed.json()["manifest_digest"] == digest
    assert manifest.headers["etag"] == f'"{digest}"'
    found = decode(manifest.content)
    assert found.package.metadata == {"case": 12}
    assert [(file.relative_path, file.media_type) for file in found.files] == [
        ("logs/day 1.txt", "text/plain")
    ]


async def test_a_manifest_is_json_unless_cbor_is_asked_for(
    client: httpx.AsyncClient, package: str
) -> None:
    await client.post(f"{package}/finalize")

    answer = await client.get(f"{package}/manifest", headers={"accept": "text/html, */*;q=0.1"})
    again = await client.get(
        f"{package}/manifest", headers={"if-none-match": answer.headers["etag"]}
    )
    cbor = await client.get(
        f"{package}/manifest",
        headers={"accept": "application/cbor", "if-none-match": answer.headers["etag"]},
    )
    head = await client.head(f"{package}/manifest")

    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept"
    assert answer.json()["manifest_version"] == 1
    assert (again.status_code, again.content) == (304, b"")
    assert cbor.status_code == 200
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == answer.headers["etag"]


async def test_a_manifest_in_no_acceptable_form_is_406(
    client: httpx.AsyncClient, package: str
) -> None:
    await client.post(f"{package}/finalize")

    answer = await client.get(f"{package}/manifest", headers={"accept": "text/html"})

    assert (answer.status_code, answer.json()["error"]) == (406, "not_acceptable")


async def test_the_state_of_a_package_decides(client: httpx.AsyncClient, package: str) -> None:
    early = await client.get(f"{package}/manifest")
    await client.put(f"{package}/files/a", content=b"1")
    twice = await client.put(f"{package}/files/a", content=b"2")
    await client.post(f"{package}/finalize")
    again = await client.post(f"{package}/finalize")
    late = await client.put(f"{package}/files/b", content=b"3")

    assert (early.status_code, early.json()["error"]) == (409, "illegal_package_state")
    assert (twice.status_code, twice.json()["error"]) == (409, "duplicate_relative_path")
    assert twice.json()["relative_path"] == "a"
    assert (again.status_code, again.json()["package_status"]) == (409, "finalized")
    assert (late.status_code, late.json()["error"]) == (409, "illegal_package_state")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/manifest"), ("POST", "/finalize"), ("PUT", "/files/a"), ("HEAD", "/manifest")],
)
async def test_an_unknown_package_is_404(client: httpx.AsyncClient, method: str, path: str) -> None:
    unknown = "00000000-0000-0000-0000-000000000000"
    answer = await client.request(method, f"/packages/{unknown}{path}")

    assert answer.status_code == 404
    if method != "HEAD":
        assert answer.json() == {
            "error": "package_not_found",
            "detail": f"there is no package {unknown} in this registry",
            "status": 404,
            "package_id": unknown,
        }


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid_request"),
        (b"{", 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b"\xff\xfe", 422, "invalid_request"),
        (json.dumps({**PACKAGE, "name": ""}).encode(), 422, "invalid_request"),
        (json.dumps({**PACKAGE, "name": 1}).encode(), 422, "invalid_request"),
        (json.dumps({**PACKAGE, "actor": "eve"}).encode(), 422, "invalid_request"),
        (json.dumps({**PACKAGE, "name": "a\0b"}).encode(), 400, "invalid_value"),
        (json.dumps({**PACKAGE, "name": "\ud800"}).encode(), 422, "invalid_request"),
        (json.dumps({**PACKAGE, "metadata": {"a": "\ud800"}}).encode(), 400, "invalid_value"),
        (json.dumps({**PACKAGE, "metadata": {"a": 2**64}}).encode(), 400, "invalid_value"),
        (b'{"name": "n", "producer": "p", "subject": "s", "retention_class": "x", "metadata": {"a": NaN}}',
         400, "invalid_value"),
        (json.dumps({**PACKAGE, "retention_class": "x"}).encode(), 400, "unknown_retention_class"),
        (json.dumps({**PACKAGE, "metadata": {"a": "x" * 20_000}}).encode(), 413, "body_too_large"),
        (b"[" * 9_000, 400, "bad_request"),
    ],
)  # fmt: skip
async def test_a_package_that_cannot_be_made_is_refused(
    client: httpx.AsyncClient, body: bytes, status: int, code: str
) -> None:
    answer = await client.post(
        "/packages", content=body, headers={"content-type": "application/json"}
    )

    assert (answer.status_code, answer.json()["error"]) == (status, code), answer.text
    assert isinstance(answer.json()["detail"], str)


async def test_what_is_wrong_with_a_body_is_listed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/packages", json={"name": "n"})

    assert answer.json()["problems"][0] == {
        "location": ["body", "producer"],
        "message": "Field required",
    }


async def test_an_upload_keeps_its_media_type_and_both_hashes(
    client: httpx.AsyncClient, package: str
) -> None:
    content = bytes(range(256)) * 1000
    await client.put(f"{package}/files/blob", content=content)
    await client.post(f"{package}/finalize")

    file = (await client.get(f"{package}/manifest")).json()["files"][0]

    assert file["media_type"] == "application/octet-stream"
    assert file["sha256"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert file["size"] == len(content)

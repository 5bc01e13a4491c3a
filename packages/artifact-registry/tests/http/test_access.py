"""Who may do what, and whom the log names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from starfish_artifact_registry.http import Access, create_registry_router
from starfish_artifact_registry.registry import Registry
from starfish_http.callers import TokenFile, create_token_role_resolver

PACKAGE: dict[str, Any] = {
    "name": "night shift", "producer": "camera 7", "subject": "gate",
    "retention_class": "raw-evidence",
}  # fmt: skip
TOKENS = {"ada-secret": "ada", "ben-secret": "ben"}
ADA = {"authorization": "Bearer ada-secret"}
BEN = {"authorization": "bearer ben-secret"}


async def actor_of(token: str) -> str | None:
    return TOKENS.get(token)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/v1")


async def actors(registry: Registry) -> list[str]:
    head = (await registry.verify_log()).head_sequence
    found: list[str] = []
    async for event in registry.tail_events():
        found.append(event.actor)
        if event.sequence == head:
            break
    return found


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": "ada-secret"},
        {"authorization": "Basic YWRhOmFkYQ=="},
        {"authorization": "Bearer ada-secret, Bearer ada-secret"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/packages"),
        ("GET", "/packages"),
        ("GET", "/events"),
        ("GET", "/files/00000000-0000-0000-0000-000000000000"),
        ("PUT", "/packages/00000000-0000-0000-0000-000000000000/files/a"),
    ],
)
async def test_without_valid_credentials_everything_is_401(
    make_app: Callable[..., FastAPI], method: str, path: str, credentials: dict[str, str]
) -> None:
    async with client_of(make_app(authenticate=actor_of)) as client:
        answer = await client.request(method, path, headers=credentials, json=PACKAGE)

    assert (answer.status_code, answer.json()["error"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "secret" not in answer.text


async def test_the_log_names_who_was_authenticated(
    make_app: Callable[..., FastAPI], registry: Registry
) -> None:
    async with client_of(make_app(authenticate=actor_of)) as client:
        made = await client.post("/packages", json=PACKAGE, headers=ADA)
        package = f"/packages/{made.json()['package_id']}"
        await client.put(f"{package}/files/a", content=b"x", headers=BEN)
        claimed = await client.post(f"{package}/finalize", headers={**BEN, "registry-actor": "ada"})
        await client.post(f"{package}/finalize", headers={**BEN, "registry-actor": "ben"})

    assert (claimed.status_code, claimed.json()["error"]) == (403, "forbidden")
    assert await actors(registry) == ["ada", "ben", "ben"]


async def test_without_an_authenticator_a_header_names_the_actor(
    client: httpx.AsyncClient, registry: Registry
) -> None:
    await client.post("/packages", json=PACKAGE, headers={"registry-actor": "camera 7"})
    await client.post("/packages", json=PACKAGE)
    refused = await client.post("/packages", json=PACKAGE, headers={"registry-actor": "a\tb"})

    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
    assert await actors(registry) == ["camera 7", "anonymous"]


async def test_a_refusal_tells_nothing_about_what_exists(
    make_app: Callable[..., FastAPI], registry: Registry
) -> None:
    asked: list[Access] = []

    async def only_ada(access: Access) -> bool:
        asked.append(access)
        return access.actor == "ada"

    async with client_of(make_app(authenticate=actor_of, authorize=only_ada)) as client:
        made = await client.post("/packages", json=PACKAGE, headers=ADA)
        package = f"/packages/{made.json()['package_id']}"
        file = await client.put(f"{package}/files/a", content=b"x", headers=ADA)
        nowhere = "00000000-0000-0000-0000-000000000000"
        answers = [
            await client.get(path, headers=BEN)
            for path in (package, f"/packages/{nowhere}", f"{package}/manifest")
        ]
        hidden = await client.get(f"/files/{file.json()['file_id']}", headers=BEN)
        unknown = await client.get(f"/files/{nowhere}", headers=BEN)

    assert {answer.status_code for answer in answers} == {403}
    assert len({answer.text for answer in answers}) == 1
    assert (hidden.status_code, hidden.json()["error"]) == (404, "file_not_found")
    assert hidden.text.replace(file.json()["file_id"], nowhere) == unknown.text
    assert {access.action for access in asked} == {"create", "ingest", "read"}


async def test_a_refused_upload_is_not_read_before_its_answer(
    make_app: Callable[..., FastAPI],
) -> None:
    happened: list[Any] = []

    async def receive() -> Any:
        happened.append("read")
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def send(message: Any) -> None:
        happened.append(message.get("status", message["type"]))

    path = "/v1/packages/00000000-0000-0000-0000-000000000000/files/a"
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "PUT",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": [(b"host", b"x"), (b"content-length", b"1")],
    }  # fmt: skip
    await make_app(authenticate=actor_of)(scope, receive, send)

    assert happened == [401, "http.response.body", "read", "http.response.body"]


async def test_a_router_is_not_made_without_a_word_about_callers(registry: Registry) -> None:
    with pytest.raises(TypeError):
        create_registry_router(registry)  # type: ignore[call-arg] - what a hurried caller writes
    with pytest.raises(TypeError, match="anyone"):
        create_registry_router(registry, authenticate=None)  # type: ignore[arg-type]


HOLD = {"reason": "case 7"}


@pytest.mark.parametrize(
    ("roles", "allowed"),
    [
        ((), {"create", "list"}),
        (("read",), {"list"}),
        (("write",), {"create"}),
        (("read", "hold"), {"list", "hold"}),
        (("release",), {"release"}),
        (("delete",), {"delete"}),
    ],
    ids=lambda names: "+".join(sorted(names)) or "none",
)
async def test_a_token_may_do_what_its_roles_say(
    make_app: Callable[..., FastAPI],
    registry: Registry,
    tmp_path: Path,
    roles: tuple[str, ...],
    allowed: set[str],
) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    token = await asyncio.to_thread(tokens.create, "camera", roles=roles)
    package_id = await registry.create_package(**PACKAGE, actor="ada")
    hold_id = await registry.hold_package(package_id, reason="court", actor="counsel")
    package = f"/packages/{package_id}"
    app = make_app(authenticate=create_token_role_resolver(tokens))

    async with client_of(app) as client:
        headers = {"authorization": f"Bearer {token}"}
        answers = {
            "create": await client.post("/packages", json=PACKAGE, headers=headers),
            "list": await client.get("/packages", headers=headers),
            "hold": await client.post(f"{package}/holds", json=HOLD, headers=headers),
            "delete": await client.post(f"{package}/delete", json=HOLD, headers=headers),
            "release": await client.post(
                f"{package}/holds/{hold_id}/release", json=HOLD, headers=headers
            ),
        }

    assert {name for name, answer in answers.items() if answer.status_code != 403} == allowed


async def test_a_holder_may_release_the_own_hold_and_no_other(
    make_app: Callable[..., FastAPI], registry: Registry, tmp_path: Path
) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    token = await asyncio.to_thread(tokens.create, "ada", roles=["hold"])
    package_id = await registry.create_package(**PACKAGE, actor="ada")
    own, other = [
        await registry.hold_package(package_id, reason="case", actor=actor)
        for actor in ("ada", "counsel")
    ]
    app = make_app(authenticate=create_token_role_resolver(tokens))

    async with client_of(app) as client:
        statuses = [
            (
                await client.post(
                    f"/packages/{package_id}/holds/{hold_id}/release",
                    json=HOLD,
                    headers={"authorization": f"Bearer {token}"},
                )
            ).status_code
            for hold_id in (other, own)
        ]

    assert statuses == [403, 204]


async def test_a_revoked_token_is_refused_from_the_next_request_on(
    make_app: Callable[..., FastAPI], tmp_path: Path
) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    token = await asyncio.to_thread(tokens.create, "ada")
    app = make_app(authenticate=create_token_role_resolver(tokens))

    async with client_of(app) as client:
        headers = {"authorization": f"Bearer {token}"}
        before = await client.get("/packages", headers=headers)
        await asyncio.to_thread(tokens.revoke, "ada")
        after = await client.get("/packages", headers=headers)

    assert (before.status_code, after.status_code) == (200, 401)

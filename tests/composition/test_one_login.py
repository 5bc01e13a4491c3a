"""One login for server, registry and history: the same token, JSON Web Token or certificate opens all three."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import OKPKey
from obstore.store import LocalStore

from starfish_artifact_registry.dataplane import InProcessDataPlane
from starfish_artifact_registry.db.engine import create_engine
from starfish_artifact_registry.db.schema import create_schema
from starfish_artifact_registry.events import RegistryViewWriter
from starfish_artifact_registry.http import create_registry_router
from starfish_artifact_registry.registry import Registry
from starfish_artifact_registry.storage import LocalBackend
from starfish_http.callers import CombinedAuthenticator, TokenFile, create_token_role_resolver
from starfish_http.callers.jwt import JwtAuthenticator, KeyCache
from starfish_mpack_wire.server import Repos, WireOptions, WireRows, create_wire_router
from starfish_protocol.cap import sign_cap_cert, user_id_from_pub_hex
from starfish_protocol.hash import stable_stringify
from starfish_protocol.request_signing import sign_request
from starfish_protocol.revocation import build_revocation_list
from starfish_protocol.suites import ed25519
from starfish_server import MemoryObjectStore, SyncConfig, SyncRouterOptions, create_sync_router
from starfish_server.auth.capabilities import Capabilities
from starfish_server.config.schema import CapabilitiesConfig, CollectionConfig

HOST = "one.example"
NOTES = CollectionConfig(
    name="notes", storage_path="notes/{identity}/{n}", read_roles=["self"], write_roles=["self"]
)


@dataclass
class Service:
    client: httpx.AsyncClient
    tokens: TokenFile
    key: OKPKey
    private: str
    capabilities: Capabilities

    @property
    def public(self) -> str:
        return ed25519.public_key(self.private)

    @property
    def user(self) -> str:
        return user_id_from_pub_hex(self.public)

    def paths(self, identity: str) -> dict[str, str]:
        return {
            "server": f"/pull/notes/{identity}/1",
            "registry": "/evidence/packages",
            "history": f"/history/{identity}/x/refs",
        }

    def jwt(self, subject: str, **claims: Any) -> dict[str, str]:
        now = int(time.time())
        body = {"iss": "https://id.example", "aud": "starfish", "exp": now + 60, "sub": subject}
        token = jwt.encode({"alg": "Ed25519", "kid": "1"}, body | claims, self.key, ["Ed25519"])
        return {"authorization": f"Bearer {token}"}

    def signed(
        self, method: str, target: str, body: bytes = b"", cap: dict[str, Any] | None = None
    ) -> dict[str, str]:
        signature = sign_request(method, target, body, self.private, host=HOST)
        text = stable_stringify(cap or self.cap())
        return {
            "authorization": "Cap " + base64.b64encode(text.encode()).decode(),
            "x-starfish-sig": signature.sig,
            "x-starfish-ts": str(signature.ts),
            "x-starfish-nonce": signature.nonce,
        }

    def cap(self) -> dict[str, Any]:
        now = int(time.time())
        return sign_cap_cert(
            {
                "v": 1, "kind": "device", "iss": self.public, "issUserId": self.user,
                "sub": self.public, "subKem": self.public, "nbf": now - 10, "exp": now + 600,
                "scope": {"ops": ["read", "write", "list"], "collections": ["*"], "paths": ["**"]},
                "nonce": "AAAAAAAAAAAAAAAAAAAAAA==",
            },
            self.private,
        )  # fmt: skip


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    key = OKPKey.generate_key("Ed25519", {"kid": "1", "alg": "Ed25519", "use": "sig"})

    async def keys() -> Any:
        return {"keys": [key.as_dict(private=False)]}

    store = MemoryObjectStore()
    private = Ed25519PrivateKey.generate().private_bytes_raw().hex()
    owner = user_id_from_pub_hex(ed25519.public_key(private))
    config = CapabilitiesConfig(publicHosts=[HOST], trustedIssuers=[owner])
    capabilities = Capabilities.of(config, store)
    tokens = TokenFile(tmp_path / "tokens.json")
    who = CombinedAuthenticator(
        capabilities=capabilities.authenticator,
        tokens=create_token_role_resolver(tokens),
        jwt=JwtAuthenticator(KeyCache(keys), issuer="https://id.example", audience="starfish"),
    )
    engine = create_engine(f"sqlite:///{tmp_path / 'registry.sqlite'}")
    await create_schema(engine)
    rows = WireRows(f"sqlite+aiosqlite:///{tmp_path / 'history.sqlite'}")
    registry = Registry(
        engine, InProcessDataPlane(LocalBackend(tmp_path / "c")), RegistryViewWriter()
    )
    blobs = LocalStore(tmp_path / "blobs", mkdir=True)
    app = FastAPI()
    options = SyncRouterOptions(
        store, SyncConfig(collections=[NOTES]), who, capabilities=capabilities
    )
    app.include_router(create_sync_router(options))
    app.include_router(create_registry_router(registry, authenticate=who), prefix="/evidence")
    wire = WireOptions(repos=rows, blobs=blobs, authenticate=who)
    app.include_router(create_wire_router(wire), prefix="/history")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
        service = Service(client, tokens, key, private, capabilities)
        for name in ("ada", owner):
            await Repos(rows).create(name, "x", private=True)
        yield service
    await rows.close()
    await engine.dispose()


async def test_a_token_opens_all_three(service: Service) -> None:
    token = await asyncio.to_thread(service.tokens.create, "ada")
    headers = {"authorization": f"Bearer {token}"}

    for part, path in service.paths("ada").items():
        assert (await service.client.get(path, headers=headers)).status_code == 200, part
    await asyncio.to_thread(service.tokens.revoke, "ada")
    for part, path in service.paths("ada").items():
        assert (await service.client.get(path, headers=headers)).status_code == 401, part


async def test_a_json_web_token_opens_all_three(service: Service) -> None:
    for part, path in service.paths("ada").items():
        assert (await service.client.get(path, headers=service.jwt("ada"))).status_code == 200, part
        for wrong in ({"aud": "other"}, {"iss": "https://evil.example"}, {"exp": 1}):
            refused = await service.client.get(path, headers=service.jwt("ada", **wrong))
            assert refused.status_code == 401, (part, wrong)


async def test_a_certificate_opens_all_three_and_each_request_once(service: Service) -> None:
    for part, path in service.paths(service.user).items():
        headers = service.signed("GET", path)
        statuses = [(await service.client.get(path, headers=headers)).status_code for _ in range(2)]
        assert statuses == [200, 401], part
        elsewhere = await service.client.get(path, headers=service.signed("GET", "/other"))
        assert elsewhere.status_code == 401, part


async def test_a_signed_body_reaches_registry_and_history(service: Service) -> None:
    package = json.dumps(
        {"name": "night", "producer": "me", "subject": "gate", "retention_class": "raw-evidence"}
    ).encode()
    for path, body in (
        ("/evidence/packages", package),
        (f"/history/{service.user}/x/fetch", b"\x80"),
    ):
        signed = service.signed("POST", path, body) | {"content-type": "application/json"}
        other = service.signed("POST", path, b"other") | {"content-type": "application/json"}

        good = await service.client.post(path, content=body, headers=signed)
        changed = await service.client.post(path, content=body, headers=other)

        assert good.status_code in {201, 422}, (path, good.text)
        assert changed.status_code == 401, path


async def test_a_stranger_with_a_key_reaches_no_evidence(service: Service) -> None:
    """Anybody can sign a certificate: the registry gives its roles to trusted issuers only."""
    stranger = Ed25519PrivateKey.generate().private_bytes_raw().hex()
    other = Service(service.client, service.tokens, service.key, stranger, service.capabilities)

    answer = await service.client.get(
        "/evidence/packages", headers=other.signed("GET", "/evidence/packages")
    )

    assert answer.status_code == 403


async def test_a_revoked_certificate_opens_nothing(service: Service) -> None:
    cap = service.cap()
    entry = {"sub": cap["sub"], "nonce": cap["nonce"], "exp": cap["exp"]}
    listed = build_revocation_list(service.public, service.private, 1, [entry])
    assert (await service.client.post("/revocations", json=listed)).status_code == 200

    for part, path in service.paths(service.user).items():
        answer = await service.client.get(path, headers=service.signed("GET", path, cap=cap))
        assert answer.status_code == 401, part

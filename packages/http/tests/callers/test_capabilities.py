"""Certificates at any host, and several kinds of credential side by side."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from starfish_http.callers import (
    Caller,
    CombinedAuthenticator,
    TokenFile,
    create_token_role_resolver,
)
from starfish_http.callers.capabilities import (
    SIGNED_BODY,
    CapabilityAuthenticator,
    CapabilityCaller,
    SignedBody,
    check_public_hosts,
    is_capability_request,
)
from starfish_http.callers.nonces import MemoryNonces
from starfish_http.errors import AuthError
from starfish_protocol.cap import sign_cap_cert, user_id_from_pub_hex
from starfish_protocol.hash import stable_stringify
from starfish_protocol.request_signing import sign_request
from starfish_protocol.suites import ed25519
from starfish_protocol.testing import ManualClock

NOW = 1_900_000_000_000
KEY = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUB = ed25519.public_key(KEY)


class Revocations:
    def __init__(self) -> None:
        self.revoked: set[str] = set()

    def is_revoked(self, iss: str, cap_sub: str, cap_nonce: str) -> bool:
        return cap_nonce in self.revoked


def cap(**members: Any) -> dict[str, Any]:
    cert = {
        "v": 1, "kind": "device", "iss": PUB, "issUserId": user_id_from_pub_hex(PUB), "sub": PUB,
        "subKem": PUB, "scope": {"ops": ["read"], "collections": ["*"], "paths": ["users/{identity}/**"]},
        "nbf": NOW // 1000, "exp": NOW // 1000 + 60, "nonce": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    return sign_cap_cert(cert | members, KEY)


def request(
    method: str = "GET",
    *,
    body: bytes = b"",
    signed: bytes | None = None,
    certificate: dict[str, Any] | None = None,
    read: Callable[[], Awaitable[bytes]] | None = None,
    is_opaque: bool = False,
    more: dict[str, str] | None = None,
) -> Request:
    content = body if signed is None else signed
    signature = sign_request(method, "/x?y=1", content, KEY, host="h.example", ts=NOW)
    text = stable_stringify(certificate or cap())
    headers = {
        "host": "h.example",
        "authorization": "Cap " + base64.b64encode(text.encode()).decode(),
        "x-starfish-sig": signature.sig,
        "x-starfish-ts": str(signature.ts),
        "x-starfish-nonce": signature.nonce,
        **({"content-length": str(len(body))} if method == "POST" else {}),
        **(more or {}),
    }
    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": "/x", "raw_path": b"/x", "query_string": b"y=1",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    if read is not None:
        scope[SIGNED_BODY] = SignedBody(read, is_opaque)
    return Request(scope)


@pytest.fixture
def revocations() -> Revocations:
    return Revocations()


@pytest.fixture
def authenticate(revocations: Revocations) -> CapabilityAuthenticator:
    return CapabilityAuthenticator(
        nonces=MemoryNonces(),
        revocations=revocations,
        public_hosts=["h.example"],
        clock=ManualClock(NOW),
    )


async def test_a_caller_has_its_identity_roles_and_bounds(
    authenticate: CapabilityAuthenticator,
) -> None:
    caller = await authenticate(request())

    me = user_id_from_pub_hex(PUB)
    assert isinstance(caller, CapabilityCaller)
    assert (caller.identity, caller.key, caller.issuer) == (me, PUB, me)
    assert caller.roles == ["cap:read:*", "device:root"]
    assert caller.allows("pull", f"users/{me}/a")
    assert not caller.allows("pull", "users/other/a")
    assert caller.allows_collection("pull", "any")
    assert not caller.allows_collection("push", "any")
    assert caller.expires_ms == NOW + 361_000


async def test_a_credential_is_used_up_by_the_host(authenticate: CapabilityAuthenticator) -> None:
    same = request()
    first, second = await authenticate(same), await authenticate(same)
    assert first.admit is not None
    assert second.admit is not None

    await first.admit()
    with pytest.raises(AuthError) as refused:
        await second.admit()

    assert refused.value.status == 401


async def test_a_revoked_caller_is_not_current(
    authenticate: CapabilityAuthenticator, revocations: Revocations
) -> None:
    caller = await authenticate(request())
    assert await caller.is_current()

    revocations.revoked.add("AAAAAAAAAAAAAAAAAAAAAA==")

    assert not await caller.is_current()
    with pytest.raises(AuthError):
        await authenticate(request())


async def test_a_body_is_read_by_the_host_or_not_at_all(
    authenticate: CapabilityAuthenticator,
) -> None:
    async def read() -> bytes:
        return b"body"

    assert (await authenticate(request("POST", body=b"body", read=read))).identity
    assert (
        await authenticate(request("POST", body=b"body", signed=b"", read=read, is_opaque=True))
    ).identity
    for refused in (
        request("POST", body=b"body"),
        request("POST", body=b"body", signed=b"", read=read),
        request("POST", body=b"body", signed=b"other", read=read, is_opaque=True),
    ):
        with pytest.raises(AuthError) as error:
            await authenticate(refused)
        assert error.value.status == 401


@pytest.mark.parametrize("value", ["x", "-1", "1.0"])
async def test_a_write_has_a_length(authenticate: CapabilityAuthenticator, value: str) -> None:
    with pytest.raises(AuthError) as error:
        await authenticate(request("POST", more={"content-length": value}))

    assert error.value.status == 413


def test_hosts_are_looked_at() -> None:
    check_public_hosts(["a.example", "[::1]:80", "b:8443"])
    for hosts in (["http://a"], [""], ["a/b"], ["a:123456"], ["h"] * 9):
        with pytest.raises(ValueError, match="refused"):
            check_public_hosts(hosts)


def test_a_scheme_is_known_by_its_case() -> None:
    assert is_capability_request(request().scope)
    assert not is_capability_request(request(more={"authorization": "cap e30="}).scope)


class _Named:
    """Says which authenticator was chosen."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, _request: Request) -> Caller:
        return Caller(self.name)


@pytest.mark.parametrize(
    ("authorization", "identity"),
    [
        ("Cap x", None),
        ("Bearer a.b.c", "jwt"),
        ("bearer a.b.c", "jwt"),
        ("Bearer sft_token", "tokens"),
        ("Basic x", "tokens"),
        (None, "tokens"),
    ],
)
async def test_the_scheme_chooses(
    authenticate: CapabilityAuthenticator, authorization: str | None, identity: str | None
) -> None:
    named: Any = _Named
    combined = CombinedAuthenticator(
        capabilities=authenticate, tokens=named("tokens"), jwt=named("jwt")
    )
    asked = request(more={} if authorization is None else {"authorization": authorization})
    if authorization is None:
        asked.scope["headers"] = [(b"host", b"h.example")]

    if identity is None:
        with pytest.raises(AuthError):
            await combined(asked)
    else:
        assert (await combined(asked)).identity == identity


async def test_tokens_and_certificates_are_both_taken(
    authenticate: CapabilityAuthenticator, tmp_path: Path
) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    token = await asyncio.to_thread(file.create, "ada")
    combined = CombinedAuthenticator(
        capabilities=authenticate, tokens=create_token_role_resolver(file)
    )
    bearer = request(more={"authorization": f"Bearer {token}"})
    nobody = request()
    nobody.scope["headers"] = [(b"host", b"h.example")]

    assert (await combined(bearer)).identity == "ada"
    assert (await combined(request())).identity == user_id_from_pub_hex(PUB)
    anonymous = await combined(nobody)
    assert (anonymous.identity, anonymous.roles) == (None, ["public"])
    assert await combined.is_current(bearer, await combined(bearer))
    await asyncio.to_thread(file.revoke, "ada")
    with pytest.raises(AuthError):
        await combined(bearer)


def test_nothing_to_combine_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        CombinedAuthenticator()

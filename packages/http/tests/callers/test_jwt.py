from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey
from starlette.requests import Request

from starfish_http.callers.jwt import (
    JwtAuthenticator,
    KeyCache,
    KeysUnavailableError,
    keys_from_file,
    keys_from_url,
)
from starfish_http.errors import AuthError, RequestRefusedError

NOW = 1_700_000_000
ISSUER, AUDIENCE = "https://login.example/", "notes"


class ManualClock:
    def __init__(self) -> None:
        self.ms = NOW * 1000

    def now_ms(self) -> int:
        return self.ms

    def now(self) -> object:
        raise NotImplementedError


class Provider:
    """An identity provider whose keys can be rotated and whose answers can fail."""

    def __init__(self) -> None:
        self.key: Any = RSAKey.generate_key(2048, {"kid": "one"})
        self.others: list[Any] = []
        self.fails = False
        self.asked = 0

    async def keys(self) -> Any:
        self.asked += 1
        if self.fails:
            raise OSError("unreachable")
        return KeySet([self.key, *self.others]).as_dict(private=False)

    def token(
        self,
        *,
        alg: str = "RS256",
        key: Any = None,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        own = {"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 600, "sub": "auth0|ada+x@example.org"}
        merged = {name: value for name, value in (own | claims).items() if value is not ...}
        key = key or self.key
        return jwt.encode(
            {"alg": alg, "kid": key.kid} | (header or {}), merged, key, algorithms=[alg]
        )


@pytest.fixture
def provider() -> Provider:
    return Provider()


def authenticator(provider: Provider, *, pause_s: float = 0, **options: Any) -> JwtAuthenticator:
    cache = KeyCache(provider.keys, pause_s=pause_s)
    options = {"clock": ManualClock(), **options}
    return JwtAuthenticator(cache, issuer=ISSUER, audience=AUDIENCE, **options)


def bearer(token: str) -> Request:
    headers = [(b"authorization", f"Bearer {token}".encode())]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


async def test_a_token_of_the_provider_names_its_caller(provider: Provider) -> None:
    token = provider.token(roles=["editor", 7], aud=["other", AUDIENCE])

    caller = await authenticator(provider)(bearer(token))

    assert (caller.identity, caller.roles) == ("auth0|ada+x@example.org", ["editor"])
    assert caller.expires_ms == (NOW + 630) * 1000
    assert await caller.is_current()


async def test_a_stream_ends_with_the_token(provider: Provider) -> None:
    clock = ManualClock()
    caller = await authenticator(provider, clock=clock)(bearer(provider.token()))

    clock.ms += 630_000

    assert not await caller.is_current()


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example/"}, {"iss": ...}, {"aud": "other"}, {"aud": ...}, {"aud": []},
        {"exp": NOW - 31}, {"exp": ...}, {"exp": "soon"}, {"exp": True}, {"exp": None}, {"nbf": NOW + 60},
        {"sub": ...}, {"sub": ""}, {"sub": 7}, {"sub": "a\nb"}, {"sub": "a" * 300}, {"exp": float("inf")}, {"exp": []},
    ],
)  # fmt: skip
async def test_a_claim_that_is_missing_or_wrong_lets_nobody_in(
    provider: Provider, claims: dict[str, Any]
) -> None:
    with pytest.raises(AuthError):
        await authenticator(provider)(bearer(provider.token(**claims)))


def forged(provider: Provider) -> dict[str, str]:
    head, body, signature = provider.token().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"one"}').decode().rstrip("=")
    secret = OctKey.import_key("a secret that everybody knows", {"kid": "one"})
    return {
        "none": f"{none}.{body}.",
        "cut": f"{head}.{body}.{signature[:-8]}",
        "other body": f"{head}.{base64.urlsafe_b64encode(b'{}').decode()}.{signature}",
        "other key": provider.token(key=RSAKey.generate_key(2048, {"kid": "one"})),
        "unknown key": provider.token(key=RSAKey.generate_key(2048, {"kid": "two"})),
        "signed with a secret": provider.token(alg="HS256", key=secret),
        "algorithm not listed": provider.token(alg="RS384"),
        "no text": "",
        "no parts": "abc",
        "kid of another type": base64.urlsafe_b64encode(b'{"alg":"RS256","kid":[1]}').decode()
        + ".e30.e30",
        "header of another type": base64.urlsafe_b64encode(b"[[[").decode() + ".e30.e30",
        "deep": base64.urlsafe_b64encode(b"[" * 9000).decode() + ".e30.e30",
        "long": "a" * 20_000,
    }


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
async def test_a_forged_token_lets_nobody_in(provider: Provider) -> None:
    authenticate = authenticator(provider)
    await authenticate(bearer(provider.token()))
    for name, token in forged(provider).items():
        try:
            await authenticate.identify(token)
        except AuthError:
            continue
        pytest.fail(name)


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("ES256", ECKey.generate_key("P-256", {"kid": "e"})),
        ("EdDSA", OKPKey.generate_key("Ed25519", {"kid": "o"})),
    ],
)
async def test_the_algorithms_of_the_list_are_taken(provider: Provider, alg: str, key: Any) -> None:
    provider.others = [key]

    caller = await authenticator(provider)(bearer(provider.token(alg=alg, key=key)))

    assert caller.identity is not None


@pytest.mark.parametrize("algorithm", ["none", "HS256", "rs256", "dir"])
def test_an_algorithm_without_a_public_key_is_refused(provider: Provider, algorithm: str) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        authenticator(provider, algorithms=[algorithm])


async def test_a_new_key_is_found_and_an_old_one_is_forgotten(provider: Provider) -> None:
    authenticate = authenticator(provider)
    old = provider.token()
    await authenticate(bearer(old))

    provider.key = RSAKey.generate_key(2048, {"kid": "two"})

    assert (await authenticate(bearer(provider.token()))).identity is not None
    with pytest.raises(AuthError):
        await authenticate(bearer(old))


async def test_unknown_keys_make_no_traffic(provider: Provider) -> None:
    authenticate = authenticator(provider, pause_s=30)
    await authenticate(bearer(provider.token()))
    other = RSAKey.generate_key(2048, {"kid": "x"})

    async def forge() -> None:
        with pytest.raises(AuthError):
            await authenticate(bearer(provider.token(key=other)))

    await asyncio.gather(*(forge() for _ in range(50)))

    assert provider.asked == 1


async def test_the_keys_go_on_while_the_provider_is_away(provider: Provider) -> None:
    cache = KeyCache(provider.keys, max_age_s=0, pause_s=0)
    authenticate = JwtAuthenticator(cache, issuer=ISSUER, audience=AUDIENCE, clock=ManualClock())
    await authenticate(bearer(provider.token()))
    provider.fails = True

    assert (await authenticate(bearer(provider.token()))).identity is not None


async def test_keys_that_were_never_reached_are_503(provider: Provider) -> None:
    provider.fails = True

    with pytest.raises(RequestRefusedError) as refusal:
        await authenticator(provider)(bearer(provider.token()))

    assert (refusal.value.status, refusal.value.code) == (503, "keys_unavailable")


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"keys": 7}, {"keys": []}, {"keys": [{"kty": "oct", "k": "AA"}]}, {"keys": [7, {}]},
     {"keys": [{"kty": "RSA"}]}],
)  # fmt: skip
async def test_a_document_that_is_not_a_key_set_has_no_keys(document: Any) -> None:
    async def fetch() -> Any:
        return document

    with pytest.raises(KeysUnavailableError):
        await KeyCache(fetch).find("one")


async def test_a_key_that_is_not_understood_leaves_the_others_good(provider: Provider) -> None:
    async def fetch() -> Any:
        document = await provider.keys()
        document["keys"][:0] = [{"kty": "AKP"}, {"kty": "EC"}, {"kty": "RSA", "use": "enc"}]
        return document

    cache = KeyCache(fetch)

    assert await cache.find("one") is not None
    assert await cache.find(None) is not None


async def test_roles_and_scope_come_from_the_named_claims(provider: Provider) -> None:
    authenticate = authenticator(
        provider, roles_claim="realm.roles", scope_claim="paths", identity_claim="email"
    )
    token = provider.token(realm={"roles": "a b"}, paths=["notes/*"], email="ada@example.org")

    caller = await authenticate(bearer(token))
    without = await authenticate(bearer(provider.token(email="eve@example.org")))

    assert (caller.identity, caller.roles) == ("ada@example.org", ["a", "b"])
    assert caller.allows("pull", "notes/1")
    assert not caller.allows("pull", "albums/1")
    assert not without.allows("pull", "notes/1")


async def test_keys_from_a_file(provider: Provider, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(await provider.keys()))

    assert await KeyCache(keys_from_file(path)).find("one") is not None


async def test_keys_come_over_https_or_from_loopback(provider: Provider) -> None:
    body = json.dumps(await provider.keys()).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
        )
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        cache = KeyCache(keys_from_url(f"http://127.0.0.1:{port}/jwks"))
        assert await cache.find("one") is not None

    for url in ("http://login.example/jwks", "file:///etc/passwd", "ftp://127.0.0.1/x"):
        with pytest.raises(ValueError, match="https"):
            keys_from_url(url)


async def test_no_token_is_anonymous(provider: Provider) -> None:
    caller = await authenticator(provider)(Request({"type": "http", "headers": []}))

    assert caller.identity is None

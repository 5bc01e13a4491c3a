"""Bearer tokens in requests: absent is anonymous, wrong is refused, revoked is noticed."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.requests import Request

from starfish_server.auth import AuthError, AuthResult, Presenter, RoleResolver, TokenFile
from starfish_server.auth.bearer import create_token_role_resolver


class Clock:
    def __init__(self) -> None:
        self.at = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.at

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at / 1000, tz=UTC)


def request(*authorization: str) -> Request:
    headers = [(b"authorization", value.encode("latin-1")) for value in authorization]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path, clock: Clock) -> TokenFile:
    return TokenFile(tmp_path / "tokens.json", clock=clock)


@pytest.fixture
def resolve(tokens: TokenFile, clock: Clock) -> RoleResolver:
    return create_token_role_resolver(tokens, clock=clock)


async def test_a_request_without_a_token_is_anonymous_even_without_a_file(
    resolve: RoleResolver,
) -> None:
    assert await resolve(request()) == AuthResult(identity=None)


async def test_a_token_gives_its_identity_roles_and_key(
    tokens: TokenFile, resolve: RoleResolver
) -> None:
    plain = await asyncio.to_thread(tokens.create, "ada", roles=["staff"])
    signing = await asyncio.to_thread(tokens.create, "bob", pubkey="ab" * 32)

    assert await resolve(request(f"Bearer {plain}")) == AuthResult("ada", ["staff"])
    assert await resolve(request(f"bearer  {signing}")) == AuthResult(
        "bob", [], Presenter("ab" * 32)
    )


@pytest.mark.parametrize(
    "headers",
    [
        ["Bearer sft_" + "A" * 43],
        ["Bearer "],
        ["Bearer"],
        [""],
        ["Basic YWRhOmFkYQ=="],
        ["Bearer " + "x" * 10_000],
        ["Bearer \xff\xfe"],
        ["Bearer a", "Bearer b"],
    ],
)
async def test_a_header_that_proves_nobody_is_refused(
    tokens: TokenFile, resolve: RoleResolver, headers: list[str]
) -> None:
    await asyncio.to_thread(tokens.create, "ada")

    with pytest.raises(AuthError) as caught:
        await resolve(request(*headers))
    assert caught.value.status == 401


async def test_the_message_of_a_refusal_repeats_nothing_of_the_token(
    resolve: RoleResolver,
) -> None:
    with pytest.raises(AuthError) as caught:
        await resolve(request("Bearer my-password"))

    assert "my-password" not in str(caught.value)


async def test_an_expired_token_is_refused(
    tokens: TokenFile, resolve: RoleResolver, clock: Clock
) -> None:
    header = f"Bearer {await asyncio.to_thread(tokens.create, 'ada', expires_ms=clock.at + 10)}"

    assert (await resolve(request(header))).identity == "ada"
    clock.at += 10
    with pytest.raises(AuthError, match="expired"):
        await resolve(request(header))


async def test_creation_and_revocation_are_noticed_after_the_refresh_time(
    tokens: TokenFile, resolve: RoleResolver, clock: Clock
) -> None:
    elsewhere = TokenFile(tokens.path)
    first = f"Bearer {await asyncio.to_thread(elsewhere.create, 'ada')}"
    await resolve(request(first))
    second = f"Bearer {await asyncio.to_thread(elsewhere.create, 'bob')}"
    await asyncio.to_thread(elsewhere.revoke, "ada")

    clock.at += 999
    assert (await resolve(request(first))).identity == "ada"
    clock.at += 1
    with pytest.raises(AuthError):
        await resolve(request(first))
    assert (await resolve(request(second))).identity == "bob"


async def test_a_lost_file_refuses_tokens_is_logged_and_leaves_anonymous_callers_alone(
    tokens: TokenFile, resolve: RoleResolver, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    token = await asyncio.to_thread(tokens.create, "ada")
    await resolve(request(f"Bearer {token}"))
    await asyncio.to_thread(tokens.path.unlink)
    clock.at += 1000

    with caplog.at_level(logging.ERROR), pytest.raises(AuthError):
        await resolve(request(f"Bearer {token}"))
    assert (await resolve(request())).identity is None
    assert "tokens.json: No such file" in caplog.text
    assert token not in caplog.text


async def test_roles_of_a_result_can_be_changed_without_changing_the_next(
    tokens: TokenFile, resolve: RoleResolver
) -> None:
    header = f"Bearer {await asyncio.to_thread(tokens.create, 'ada', roles=['staff'])}"

    (await resolve(request(header))).roles.append("admin")

    assert (await resolve(request(header))).roles == ["staff"]


async def test_many_requests_at_once_share_one_look_at_the_file(
    tokens: TokenFile, resolve: RoleResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = f"Bearer {await asyncio.to_thread(tokens.create, 'ada')}"
    looks = []
    refresh = tokens.refresh
    monkeypatch.setattr(tokens, "refresh", lambda: looks.append(1) or refresh())

    results = await asyncio.gather(*(resolve(request(header)) for _ in range(20)))

    assert {result.identity for result in results} == {"ada"}
    assert len(looks) == 1

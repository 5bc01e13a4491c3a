from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from starfish_http import AuthError
from starfish_http.callers import (
    Authenticator,
    Caller,
    TokenFile,
    anyone,
    as_authenticator,
    by_request,
    by_token,
    create_token_role_resolver,
)


def request(*authorization: str) -> Request:
    headers = [(b"authorization", each.encode("latin-1")) for each in authorization]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


def bearer(token: str) -> Request:
    return request(f"Bearer {token}")


async def test_a_token_of_the_file_names_its_caller(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    token = await asyncio.to_thread(
        tokens.create,
        "ada",
        roles=["staff"],
        pubkey="ab" * 32,
        namespaces=["acme"],
        scope_paths=["notes/*"],
    )
    authenticate = create_token_role_resolver(tokens)

    caller = await authenticate(bearer(token))

    assert (caller.identity, caller.roles, caller.key) == ("ada", ["staff"], "ab" * 32)
    assert caller.allows("pull", "notes/1")
    assert not caller.allows("pull", "albums/1")
    assert caller.allows_namespace("acme")
    assert not caller.allows_namespace("other")
    assert not caller.allows_namespace(None)


async def test_a_request_without_credentials_is_anonymous(tmp_path: Path) -> None:
    authenticate = create_token_role_resolver(TokenFile(tmp_path / "none.json"))

    assert await authenticate(request()) == Caller()


@pytest.mark.parametrize(
    "authorization",
    [["Basic YQ=="], ["Bearer"], ["Bearer a b"], ["Bearer a", "Bearer a"], ["Bearer é"], [""]],
)
async def test_a_header_of_another_form_is_refused(
    tmp_path: Path, authorization: list[str]
) -> None:
    authenticate = create_token_role_resolver(TokenFile(tmp_path / "tokens.json"))

    with pytest.raises(AuthError) as refusal:
        await authenticate(request(*authorization))

    assert refusal.value.status == 401
    assert refusal.value.headers == {"www-authenticate": "Bearer"}


async def test_unknown_expired_and_revoked_tokens_get_in_nowhere_from_the_next_request_on(
    tmp_path: Path,
) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    authenticate = create_token_role_resolver(tokens)
    good = await asyncio.to_thread(tokens.create, "ada")
    caller = await authenticate(bearer(good))
    assert await caller.is_current()
    assert await authenticate.is_current(bearer(good), caller)

    await asyncio.to_thread(tokens.revoke, "ada")

    assert not await caller.is_current()
    assert not await authenticate.is_current(bearer(good), caller)
    for each in (good, "sft_" + "0" * 43):
        with pytest.raises(AuthError):
            await authenticate(bearer(each))
    short = await asyncio.to_thread(tokens.create, "eve", expires_ms=int(1e15))
    eve = await authenticate(bearer(short))
    assert eve.expires_ms == int(1e15)


async def test_no_token_is_good_while_the_file_is_missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    tokens = TokenFile(path)
    token = await asyncio.to_thread(tokens.create, "ada")
    authenticate = create_token_role_resolver(tokens)
    caller = await authenticate(bearer(token))

    path.write_text("{")

    with pytest.raises(AuthError):
        await authenticate(bearer(token))
    assert not await caller.is_current()
    path.unlink()
    with pytest.raises(AuthError):
        await authenticate(bearer(token))


async def test_many_requests_at_once_after_a_change_are_answered_alike(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    authenticate = create_token_role_resolver(TokenFile(tmp_path / "tokens.json"))
    token = await asyncio.to_thread(tokens.create, "ada")

    callers = await asyncio.gather(*(authenticate(bearer(token)) for _ in range(50)))

    assert {caller.identity for caller in callers} == {"ada"}


async def actor_of(token: str) -> str | None:
    return "ada" if token == "good" else None


async def name_of(request):
    return "ada" if "authorization" in request.headers else None


async def caller_of(request: Request) -> Caller:
    return Caller("ada" if "authorization" in request.headers else None)


class CallerOf:
    async def __call__(self, request: Request) -> Caller:
        return await caller_of(request)

    async def method(self, request: Request) -> Caller:
        return await caller_of(request)


def test_an_authenticator_is_taken_as_it_is(tmp_path: Path) -> None:
    authenticate = create_token_role_resolver(TokenFile(tmp_path / "tokens.json"))

    for plain in ("request", "token"):
        assert as_authenticator(authenticate, plain=plain) is authenticate
        assert as_authenticator(anyone, plain=plain) is anyone


@pytest.mark.parametrize(
    ("function", "plain"),
    [
        (actor_of, "token"),
        (name_of, "request"),
        (caller_of, "request"),
        (caller_of, "token"),
        (CallerOf(), "token"),
        (CallerOf().method, "token"),
    ],
)
async def test_every_documented_form_names_the_caller(function: Any, plain: Any) -> None:
    authenticate = as_authenticator(function, plain=plain)

    assert isinstance(authenticate, Authenticator)
    assert (await authenticate(bearer("good"))).identity == "ada"
    assert (await authenticate(request())).identity is None


async def test_a_function_of_a_token_refuses_one_that_it_does_not_know() -> None:
    with pytest.raises(AuthError, match="not valid"):
        await by_token(actor_of)(bearer("bad"))


@pytest.mark.parametrize("given", [None, "ada", 7])
def test_nobody_is_let_in_by_leaving_something_out(given: Any) -> None:
    with pytest.raises(TypeError, match="anyone"):
        as_authenticator(given, plain="request")


async def test_anyone_is_anonymous_and_says_its_name() -> None:
    assert await anyone(bearer("x")) == Caller()
    assert repr(anyone) == "anyone"


async def test_a_function_that_answers_otherwise_no_longer_vouches_for_its_caller() -> None:
    roles = ["editor"]

    async def resolve(_request: Request) -> Caller:
        if not roles:
            raise RuntimeError
        return Caller("ada", list(roles))

    authenticate = by_request(resolve)
    caller = await authenticate(request())
    assert await authenticate.is_current(request(), caller)

    roles[:] = ["reader"]
    assert not await authenticate.is_current(request(), caller)
    roles.clear()
    assert not await authenticate.is_current(request(), caller)


@dataclass
class AuthResultOfAnotherPackage:
    identity: str | None
    roles: list[str] = field(default_factory=list)
    scope_paths: list[str] | None = None
    presenter: Any = None

    def allows(self, action: str, key: str) -> bool:
        return action == "pull"


async def test_an_object_with_identity_and_roles_is_a_caller() -> None:
    given = AuthResultOfAnotherPackage(
        "ada", ["x"], ["notes/*"], SimpleNamespace(pub_hex="ab" * 32)
    )

    caller = Caller.of(given)

    assert (caller.identity, caller.roles, caller.key) == ("ada", ["x"], "ab" * 32)
    assert caller.allows("pull", "notes/1")
    assert not caller.allows("push", "notes/1")
    assert not caller.allows("pull", "albums/1")


def test_anything_else_is_not_a_caller() -> None:
    with pytest.raises(TypeError, match="it must be a Caller"):
        Caller.of(7)

from __future__ import annotations

import asyncio
import gzip
import itertools
import zlib
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive

from starfish_http.errors import ClientDisconnectedError, RequestRefusedError
from starfish_http.request_body import BodyPace, RequestBody, header


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "http_version": "1.1", "headers": list(headers)}


CHUNKED = (b"transfer-encoding", b"chunked")
GZIP = (b"content-encoding", b"gzip")
GZIPPED = gzip.compress(b"abc", mtime=0)


def receiving(pieces: Iterable[bytes]) -> Receive:
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    left = iter(messages)

    async def receive() -> Message:
        return next(left, {"type": "http.disconnect"})

    return receive


def split(content: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(content), *(each % (len(content) + 1) for each in at)})
    return [content[a:b] for a, b in itertools.pairwise(edges)]


def body(
    headers: list[tuple[bytes, bytes]], pieces: Iterable[bytes], most: int = 1000
) -> RequestBody:
    return RequestBody(scope(*headers), receiving(pieces), max_bytes=most)


async def refusal_of(given: RequestBody) -> RequestRefusedError:
    with pytest.raises(RequestRefusedError) as refusal:
        await given.read()
    return refusal.value


@given(st.lists(st.binary(max_size=300), max_size=3), st.lists(st.integers(0, 2000), max_size=6))
def test_whatever_the_pieces_the_decoded_body_is_the_content(
    members: list[bytes], at: list[int]
) -> None:
    coded = b"".join(gzip.compress(each) for each in members)
    content = b"".join(members)

    async def read_all() -> tuple[bytes, bytes, bytes]:
        pieces = split(coded, at)
        whole = await body([CHUNKED, GZIP], pieces).read()
        parts = b"".join([p async for p in body([CHUNKED, GZIP], pieces).pieces()])
        plain = await body([CHUNKED], split(content, at)).read()
        return whole, parts, plain

    assert asyncio.run(read_all()) == (content, content, content)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=4), st.booleans())
def test_a_body_is_refused_exactly_when_it_is_over_the_bound(
    content: bytes,
    at: list[int],
    is_coded: bool,  # noqa: FBT001 - drawn
) -> None:
    sent = gzip.compress(content) if is_coded else content
    headers = [CHUNKED, GZIP] if is_coded else [CHUNKED]
    most = 200

    async def outcome() -> int:
        try:
            await body(headers, split(sent, at), most).read()
        except RequestRefusedError as refusal:
            return refusal.status
        return 200

    assert asyncio.run(outcome()) == (413 if max(len(sent), len(content)) > most else 200)


async def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = gzip.compress(bytes(200_000_000), 1)[:900_000]
    given = body([CHUNKED, GZIP], [bomb], 1_000_000)

    assert (await refusal_of(given)).status == 413


async def test_an_announced_length_over_the_bound_is_refused_before_anything_is_read() -> None:
    async def receive() -> Message:
        raise AssertionError

    given = RequestBody(scope((b"content-length", b"1001")), receive, max_bytes=1000)

    refusal = await refusal_of(given)

    assert (refusal.status, refusal.facts, refusal.leaves_body_unread) == (
        413,
        {"maxBytes": 1000},
        True,
    )
    assert given.is_unread


@pytest.mark.parametrize(
    "codings",
    [[b"br"], [b"gzip, gzip"], [b"gzip", b"gzip"], [b"deflate"], [b"gzip", b"br"], [b"?"]],
)
async def test_another_coding_is_415_and_says_which_are_taken(codings: list[bytes]) -> None:
    given = body([CHUNKED, *((b"content-encoding", each) for each in codings)], [b"x"])

    refusal = await refusal_of(given)

    assert (refusal.status, refusal.code) == (415, "unsupported_coding")
    assert refusal.headers == {"accept-encoding": "gzip, identity", "connection": "close"}


@pytest.mark.parametrize("coding", [b"identity", b"", b"Identity, identity"])
async def test_identity_is_not_a_coding(coding: bytes) -> None:
    assert await body([CHUNKED, (b"content-encoding", coding)], [b"ab", b"c"]).read() == b"abc"


@pytest.mark.parametrize(
    "sent",
    [b"plain", GZIPPED[:-1], GZIPPED + b"x", zlib.compress(b"abc"), GZIPPED[:5]],
    ids=["plain", "cut", "more-behind", "zlib", "half-a-header"],
)
async def test_bytes_that_are_not_gzip_are_400(sent: bytes) -> None:
    assert (await refusal_of(body([CHUNKED, GZIP], [sent]))).code == "malformed_gzip"


async def test_a_body_that_is_not_as_long_as_announced_is_400() -> None:
    given = body([(b"content-length", b"5")], [b"abc"])

    assert (await refusal_of(given)).code == "incomplete_body"


async def test_a_client_that_leaves_in_the_middle_is_told_apart() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    given = RequestBody(scope(CHUNKED), receive, max_bytes=10)

    with pytest.raises(ClientDisconnectedError):
        await given.read()


async def test_a_body_that_comes_too_slowly_is_408_and_one_that_goes_on_is_not() -> None:
    async def slowly() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    pace = BodyPace(interval_s=0.05, min_bytes=1000)
    given = RequestBody(scope(CHUNKED), slowly, max_bytes=10_000, pace=pace)
    assert (await refusal_of(given)).code == "body_too_slow"

    pace = BodyPace(interval_s=0.05, min_bytes=10)
    given = RequestBody(scope(CHUNKED), slowly, max_bytes=100, pace=pace)
    assert (await refusal_of(given)).status == 413


async def test_it_is_read_once_and_given_to_every_reader() -> None:
    given = body([CHUNKED], [b"ab", b"c"])

    assert await given.read() == await given.read() == b"abc"
    assert await given() == {"type": "http.request", "body": b"abc", "more_body": False}
    assert not given.is_unread


async def test_as_a_receive_it_gives_the_decoded_pieces_and_then_the_end() -> None:
    given = body([CHUNKED, GZIP], [gzip.compress(b"abc")])

    messages = [await given() for _ in range(3)]

    assert [each.get("body") for each in messages] == [b"abc", b"", None]
    assert messages[2]["type"] == "http.disconnect"


def test_a_request_that_announces_nothing_has_no_body() -> None:
    assert not RequestBody(scope(), receiving([]), max_bytes=1).is_unread
    assert header(scope((b"a", b"1"), (b"a", b"2")), b"a") == b"1"
    assert header(scope(), b"a") is None

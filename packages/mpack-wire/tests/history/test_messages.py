"""Requests are read strictly: whatever is not one gives one error, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_mpack_wire._messages import (
    BlobFilter,
    BlobsRequest,
    FetchRequest,
    PresignRequest,
    UnpackRequest,
)
from starfish_mpack_wire.errors import InvalidMessageError
from starfish_mpack_wire.limits import Limits

ID = "sha256:" + "0a" * 32
OTHER = "sha256:" + "ff" * 32
IDS = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")


def ids(most: int = 3, least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(IDS, min_size=least, max_size=most, unique=True).map(tuple)


FETCHES = st.builds(
    FetchRequest,
    want=ids(least=1),
    have=ids(),
    want_refs=st.lists(st.text(min_size=1), max_size=2, unique=True).map(tuple),
    depth=st.none() | st.integers(1, 1_000_000),
    shallow=ids(),
    filter=st.none() | st.integers(-1, 10**9).map(BlobFilter),
    paths=st.lists(st.sampled_from(["a", "a/b", "ü"]), unique=True).map(tuple),
    base=st.booleans(),
)
UNPACKS = st.builds(
    UnpackRequest,
    mpack_id=IDS,
    branch=st.text(max_size=10),
    head=st.none() | IDS,
    expected_head=IDS,
    expects=st.just(True),
    force=st.booleans(),
    dry_run=st.booleans(),
)


@given(FETCHES)
def test_a_fetch_survives_the_wire(request: FetchRequest) -> None:
    assert FetchRequest.parse(request.to_bytes(), Limits()) == request


@given(UNPACKS)
def test_an_unpack_survives_the_wire(request: UnpackRequest) -> None:
    assert UnpackRequest.parse(request.to_bytes(), Limits()) == request


def test_no_expectation_is_not_the_expectation_of_no_branch() -> None:
    body = {"mpack_id": ID, "branch": "main"}

    none = UnpackRequest.parse(msgpack.packb(body | {"expected_head": None}), Limits())
    absent = UnpackRequest.parse(msgpack.packb(body), Limits())

    assert (none.expects, absent.expects) == (True, False)
    assert UnpackRequest.parse(none.to_bytes(), Limits()) == none


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"want": []}, "want is empty"),
        ({}, "want is empty"),
        ({"want": "x"}, "want is not a list"),
        ({"want": [1]}, "want holds"),
        ({"want": [ID[:-1]]}, "want holds"),
        ({"want": [ID + "\n"]}, "want holds"),
        ({"want": [ID.upper()]}, "want holds"),
        ({"want": [ID.removeprefix("sha256:")]}, "want holds"),
        ({"want": [ID.encode()]}, "want holds"),
        ({"want": [ID, OTHER, "sha256:" + "11" * 32]}, "want has 3 entries, at most 2"),
        ({"want": [ID], "have": [ID] * 5}, "have has 5 entries, at most 4"),
        ({"want": [ID], "have": {}}, "have is not a list"),
        ({"want": [ID], "depth": 0}, "depth is not an integer from 1"),
        ({"want": [ID], "depth": True}, "depth is not an integer"),
        ({"want": [ID], "depth": 2**63}, "depth is not an integer"),
        ({"want": [ID], "depth": 1.0}, "depth is not an integer"),
        ({"want": [ID], "filter": "tree:0"}, "filter is neither"),
        ({"want": [ID], "filter": "blob:limit=-1"}, "filter is neither"),
        ({"want": [ID], "filter": "blob:limit=07"}, "filter is neither"),
        ({"want": [ID], "filter": 1}, "filter is not text"),
        ({"want": [ID], "paths": [""]}, "paths: '' is not a path"),
        ({"want": [ID], "paths": ["/"]}, "paths: '' is not a path"),
        ({"want": [ID], "paths": ["a/../b"]}, "paths: 'a/../b' is not a path"),
        ({"want": [ID], "paths": ["x" * 5000]}, "paths: 'x.* is not a path"),
        ({"want": [ID], "paths": [7]}, "paths is not text"),
        ({"want": [ID], "wants": [ID]}, "the key 'wants' is not known"),
        ({"want": [ID], "base": 1}, "base is not a boolean"),
        ([ID], "the body is not a map"),
        ({1: 2}, "not msgpack"),
    ],
)
def test_what_is_no_fetch_is_refused_with_its_reason(body: Any, reason: str) -> None:
    with pytest.raises(InvalidMessageError, match=reason):
        FetchRequest.parse(msgpack.packb(body), Limits(max_wants=2, max_haves=4))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\x80\x80",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b'{"want": []}',
        b"\x81\xa4want\xc7\x00\x01",
        b"\x82\xa4want\x90\xa4want\x90",
        b"\x81\xa4\xff\xff\xff\xff\x90",
        b"\x80" * 3_000_000,
    ],
)
def test_what_is_no_msgpack_map_is_refused(data: bytes) -> None:
    for kind in (FetchRequest, BlobsRequest, PresignRequest, UnpackRequest):
        with pytest.raises(InvalidMessageError):
            kind.parse(data, Limits())


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.just(ID),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["want", "have", "mpack_id", "branch", "size_bytes"]), inner
            )
        ),
    ).map(msgpack.packb)
)
def test_any_body_is_read_or_refused(data: bytes) -> None:
    for kind in (FetchRequest, BlobsRequest, PresignRequest, UnpackRequest):
        with suppress(InvalidMessageError):
            kind.parse(data, Limits())

"""Ids of commits: every key counts, the order of keys does not."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_mpack_wire import MPackFormatError, blob_id, commit_id
from starfish_protocol import cbor

BODY = {
    "branch": "main",
    "snapshot_id": blob_id(b""),
    "parent_ids": [],
    "message": "m",
    "author": "a",
    "committed_at": "2026-01-31T12:00:00Z",
}


def test_the_id_is_the_hash_of_a_tagged_array_without_the_id_itself() -> None:
    by_the_book = hashlib.sha256(cbor.encode(["starfish.commit.v1", BODY])).hexdigest()

    assert commit_id(BODY) == "sha256:" + by_the_book
    assert commit_id({**BODY, "commit_id": "anything"}) == commit_id(BODY)


@given(keys=st.permutations([*BODY, "unknown"]))
def test_the_order_of_keys_does_not_count(keys: list[str]) -> None:
    record = {**BODY, "unknown": {"b": 1, "a": 2}}

    assert commit_id({key: record[key] for key in keys}) == commit_id(record)


SIZES = st.sampled_from([0, 1, 23, 24, 255, 256, 65_536])


@given(
    texts=st.tuples(*[st.text() | SIZES.map("\u00e4".__mul__) | SIZES.map("a".__mul__)] * 5),
    parents=st.lists(st.text(max_size=80), max_size=30),
)
def test_the_short_way_for_the_usual_keys_gives_the_id_by_the_book(texts, parents) -> None:
    keys = ("author", "branch", "message", "snapshot_id", "committed_at")
    body = {**dict(zip(keys, texts, strict=True)), "parent_ids": parents}
    by_the_book = hashlib.sha256(cbor.encode(["starfish.commit.v1", body])).hexdigest()

    assert commit_id({**body, "commit_id": "anything"}) == "sha256:" + by_the_book


@pytest.mark.parametrize("key", BODY)
@pytest.mark.parametrize("value", [object(), "\ud800", ["\ud800"], [object()]])
def test_the_short_way_refuses_what_has_no_id(key: str, value) -> None:
    with pytest.raises(MPackFormatError, match=key):
        commit_id({**BODY, key: value, "commit_id": "anything"})


@pytest.mark.parametrize("key", [*BODY, "unknown"])
def test_every_key_counts(key: str) -> None:
    assert commit_id({**BODY, key: "another"}) != commit_id(BODY)


def test_empty_metadata_and_none_are_two_commits() -> None:
    assert commit_id({**BODY, "metadata": {}}) != commit_id(BODY)


@pytest.mark.parametrize("value", [object(), {1: 2}, "\ud800", 2**64, {"a": {1}}])
def test_a_value_without_a_place_in_a_commit_is_refused(value) -> None:
    with pytest.raises(MPackFormatError, match="unknown"):
        commit_id({**BODY, "unknown": value})

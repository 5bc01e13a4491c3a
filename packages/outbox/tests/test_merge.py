"""Merging edits, and finding the document that they were made from."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip(
    "starfish_outbox.http", reason="the extra http is not installed", exc_type=ImportError
)

from hypothesis import given
from hypothesis import strategies as st

from starfish_outbox._push.merge import contains, contradictions, find_base, without_deletions
from starfish_outbox.http import merge_three_ways
from starfish_protocol.hash import compute_hash

DOCUMENTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from("abcd"),
    st.recursive(
        st.integers(0, 2) | st.booleans() | st.lists(st.integers(0, 1), max_size=2),
        lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
        max_leaves=4,
    ),
    max_size=4,
)


@given(DOCUMENTS, DOCUMENTS)
def test_a_change_of_one_side_is_the_result(base: dict[str, Any], edit: dict[str, Any]) -> None:
    for merged in (merge_three_ways(base, edit, base), merge_three_ways(base, base, edit)):
        assert compute_hash(merged.document) == compute_hash(edit)
        assert merged.given_up == ()


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_where_nothing_is_given_up_both_sides_agree(
    base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]
) -> None:
    ours = merge_three_ways(base, mine, theirs)
    swapped = merge_three_ways(base, theirs, mine)

    assert bool(ours.given_up) is bool(swapped.given_up)
    if not ours.given_up:
        assert compute_hash(ours.document) == compute_hash(swapped.document)
    preferring_theirs = merge_three_ways(base, mine, theirs, prefer="theirs")
    assert compute_hash(preferring_theirs.document) == compute_hash(swapped.document)


@given(DOCUMENTS, st.data())
def test_the_base_is_found_where_each_side_changed_its_own_fields(
    base: dict[str, Any], data: st.DataObject
) -> None:
    mine, theirs = dict(base), dict(base)
    for name in "abcd":
        side = data.draw(st.sampled_from([mine, theirs]))
        change = data.draw(st.sampled_from(["keep", "delete", "set"]))
        if change == "delete":
            side.pop(name, None)
        elif change == "set":
            side[name] = data.draw(st.integers(10, 12))

    found = find_base(compute_hash(base), mine, theirs)
    assert found is not None
    assert compute_hash(found) == compute_hash(base)


def test_a_base_without_an_object_that_both_sides_added_is_found() -> None:
    base = {"title": "p", "text": ""}
    mine = {**base, "tags": {"ada": True}}
    theirs = {"title": "p", "text": "by ben", "tags": {"ben": True}}

    assert find_base(compute_hash(base), mine, theirs) == base


def test_a_base_is_not_looked_for_among_too_many() -> None:
    mine = {f"k{n}": n for n in range(20)}

    assert find_base("0" * 64, mine, {}) is None
    assert find_base("0" * 64, {"a": 1}, {"a": 2}) is None


def test_deletions_survive_at_every_depth() -> None:
    base = {"a": {"b": {"gone": 1, "kept": 1}}, "gone": 1}
    mine = {"a": {"b": {"kept": 1}}}
    theirs = {"a": {"b": {"gone": 1, "kept": 1, "new": 2}}, "gone": 1, "more": 3}

    assert merge_three_ways(base, mine, theirs).document == {
        "a": {"b": {"kept": 1, "new": 2}},
        "more": 3,
    }


def test_a_boolean_is_not_a_number() -> None:
    assert merge_three_ways({"a": 1}, {"a": True}, {"a": 1}).document == {"a": True}
    assert not contains({"a": 1}, {"a": True})
    assert contradictions({"a": True, "b": 1}, {"a": 1, "c": 2}) == ("a",)


@given(DOCUMENTS, DOCUMENTS)
def test_against_the_part_that_an_edit_has_it_deletes_nothing(
    base: dict[str, Any], mine: dict[str, Any]
) -> None:
    part = without_deletions(base, mine)

    merged = merge_three_ways(part, mine, base)
    assert base.keys() <= merged.document.keys()

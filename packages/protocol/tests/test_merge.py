import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_protocol.merge import UNSAFE_KEYS, deep_merge, drop_unsafe_keys

keys = st.sampled_from(["a", "b", "", *sorted(UNSAFE_KEYS)])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(keys, values, max_size=4)


def nested(depth: int, leaf: dict) -> dict:
    for _ in range(depth):
        leaf = {"a": [leaf]} if depth % 2 else {"a": leaf}
    return leaf


def merge_by_recursion(local: dict, remote: dict) -> dict:
    merged = {}
    for key in [*local, *(k for k in remote if k not in local)]:
        if key in UNSAFE_KEYS:
            continue
        both = isinstance(local.get(key), dict) and isinstance(remote.get(key), dict)
        if both:
            merged[key] = merge_by_recursion(local[key], remote[key])
        else:
            merged[key] = drop_by_recursion(remote[key] if key in remote else local[key])
    return merged


def drop_by_recursion(value):
    if isinstance(value, dict):
        return {k: drop_by_recursion(v) for k, v in value.items() if k not in UNSAFE_KEYS}
    return [drop_by_recursion(v) for v in value] if isinstance(value, list) else value


def test_the_remote_value_wins_and_objects_merge_key_by_key():
    local = {"title": "ours", "meta": {"color": "red", "size": 1}, "tags": [1, 2], "only": "here"}
    remote = {"title": "theirs", "meta": {"size": {"w": 2}}, "tags": [3], "new": None}

    merged = deep_merge(local, remote)

    assert merged == {
        "title": "theirs",
        "meta": {"color": "red", "size": {"w": 2}},
        "tags": [3],
        "only": "here",
        "new": None,
    }
    assert list(merged) == ["title", "meta", "tags", "only", "new"]


@pytest.mark.parametrize("local", [{"a": {"b": 1}}, {"a": [1]}, {"a": 1}, {"a": None}])
@pytest.mark.parametrize("remote", [None, 0, "", [], [2]])
def test_a_remote_value_that_is_no_object_replaces_whatever_was_there(local, remote):
    assert deep_merge(local, {"a": remote}) == {"a": remote}


@pytest.mark.parametrize("key", sorted(UNSAFE_KEYS))
@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: inner,
        lambda inner: {"a": {"b": inner}},
        lambda inner: {"a": [1, [inner]]},
        lambda inner: {"a": ({"b": inner},)},
    ],
    ids=["top", "object", "list", "tuple"],
)
def test_an_unsafe_key_is_dropped_at_every_depth_of_both_sides(key, wrap):
    hostile = wrap({key: {"isAdmin": True}, "safe": 1})

    assert "isAdmin" not in json.dumps(deep_merge(hostile, {}))
    assert "isAdmin" not in json.dumps(deep_merge({}, hostile))
    assert "isAdmin" not in json.dumps(deep_merge(hostile, hostile))
    assert "safe" in json.dumps(deep_merge(hostile, hostile))


def test_an_unsafe_key_inside_an_unsafe_key_does_not_survive():
    assert drop_unsafe_keys({"__proto__": {"__proto__": 1}, "a": {"constructor": {}}}) == {"a": {}}


def test_a_value_that_looks_like_an_unsafe_key_is_kept():
    assert drop_unsafe_keys({"a": "__proto__", "b": ["constructor"]}) == {
        "a": "__proto__",
        "b": ["constructor"],
    }


@pytest.mark.parametrize("depth", [100_000, 100_001])
def test_depth_is_no_obstacle(depth):
    merged = deep_merge(nested(depth, {"x": 1}), nested(depth, {"__proto__": 1, "y": 2}))

    leaf = merged
    for _ in range(depth):
        leaf = leaf["a"][0] if depth % 2 else leaf["a"]
    assert leaf == ({"y": 2} if depth % 2 else {"x": 1, "y": 2})


@given(local=documents, remote=documents)
def test_merging_equals_the_definition(local, remote):
    before = copy.deepcopy((local, remote))

    merged = deep_merge(local, remote)

    assert merged == merge_by_recursion(local, remote)
    assert (local, remote) == before


@given(local=documents, remote=documents)
def test_changing_the_result_does_not_change_the_arguments(local, remote):
    before = copy.deepcopy((local, remote))
    pending = [deep_merge(local, remote)]

    while pending:
        container = pending.pop()
        members = container.values() if isinstance(container, dict) else container
        pending += [member for member in members if isinstance(member, dict | list)]
        container.clear()

    assert (local, remote) == before


@given(local=documents, remote=documents)
def test_merging_the_same_remote_again_changes_nothing(local, remote):
    merged = deep_merge(local, remote)

    assert deep_merge(merged, remote) == merged
    assert deep_merge(merged, {}) == deep_merge({}, merged) == merged


@given(value=values)
def test_dropping_unsafe_keys_equals_the_definition(value):
    assert drop_unsafe_keys(value) == drop_by_recursion(value)

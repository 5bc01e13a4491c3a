from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_watcher import Coordinate
from starfish_watcher._model.coordinate import in_namespace, namespaces_of


@pytest.mark.parametrize("name", ["a", "a:b:c", "ü" * 512, "a.b", "with space", "a@b", "x" * 1024])
def test_a_legal_name_is_kept_as_it_is(name: str) -> None:
    assert str(Coordinate(name, name)) == f"{name}@{name}"


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "1 to 1024 UTF-8 bytes are allowed, it has 0"),
        ("x" * 1025, "it has 1025"),
        ("ü" * 513, "it has 1026"),
        ("a\x00b", r"contains '\\x00'"),
        ("a\nb", "control characters"),
        ("a\x7fb", "control characters"),
        ("a\x85b", "control characters"),
        ("a/b", "contains '/'"),
        ("a..b", r"contains '\.\.'"),
        ("a|b", r"contains '\|'"),
        ("a=b", "contains '='"),
        ("a\ud800", "lone surrogate"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_name(name: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Coordinate(name, "eu")
    with pytest.raises(ValueError, match=rule):
        Coordinate("a", name)


def test_what_is_not_a_string_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="entity must be a string, not int"):
        Coordinate(1, "eu")  # type: ignore[arg-type]


names = st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=4).map(":".join)


@given(names, names)
def test_a_name_lies_in_exactly_the_namespaces_that_are_listed(entity: str, prefix: str) -> None:
    assert in_namespace(entity, prefix) == (prefix in namespaces_of(entity))

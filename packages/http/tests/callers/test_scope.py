from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_http.callers import scope_reaches

globs = st.text("ab/*", max_size=12)
keys = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


@given(st.lists(globs, max_size=4), keys)
def test_a_denial_wins_in_any_order_and_covers_all_below(paths: list[str], key: str) -> None:
    denying = [*paths, f"!{key}"]

    assert not scope_reaches(denying, key)
    assert not scope_reaches(list(reversed(denying)), f"{key}/below")


@pytest.mark.parametrize(
    ("paths", "key", "reaches"),
    [
        (None, "a", True),
        ([], "a", True),
        (["a"], "a", True),
        (["/a"], "a", False),
        (["a/**"], "a", False),
        (["!a"], "b", False),
        (["**", "!**/*secret"], "a/b/topsecret", False),
        (["[ab]?"], "ab", False),
        (["a/**", "!a/b"], "a//./b", False),
        (["a/**"], "/a/b", True),
    ],
)
def test_scopes(paths: list[str] | None, key: str, *, reaches: bool) -> None:
    assert scope_reaches(paths, key) is reaches

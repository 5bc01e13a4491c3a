"""Finding a route among many."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from starfish_server.mounting._path_table import PathTable

SEGMENTS = st.sampled_from(["a", "b", "{x}", "{y}", "a-{x}", "{x}.b", "a-{x}.b"])
TEMPLATES = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)
PATHS = st.lists(
    st.sampled_from(["a", "b", "", "a-b", "a-", "c.b", ".b", "a-c.b"]), min_size=1, max_size=3
)


@given(templates=st.sets(TEMPLATES, max_size=8), path=PATHS.map("/".join))
def test_a_path_is_found_exactly_when_a_pattern_matches(templates: set[str], path: str) -> None:
    table: PathTable[str] = PathTable()
    for template in templates:
        table.add(template, template)

    found = table.find(path)

    patterns = {t: re.sub(r"\\{\w+\\}", "[^/]*", re.escape(t)) for t in templates}
    matching = {t for t, pattern in patterns.items() if re.fullmatch(pattern, path)}
    assert (found is not None) == bool(matching)
    if found is not None:
        template, params = found
        assert template in matching
        if len(set(re.findall(r"\{(\w+)\}", template))) == template.count("{"):
            assert template.format(**params) == path


def test_fixed_text_wins_over_a_parameter_even_if_it_ends_elsewhere() -> None:
    table: PathTable[int] = PathTable()
    table.add("a/b", 1)
    table.add("{x}/b", 2)
    table.add("{x}/{y}", 3)
    table.add("a/b/c", 4)

    assert table.find("a/b") == (1, {})
    assert table.find("c/b") == (2, {"x": "c"})
    assert table.find("a/c") == (3, {"x": "a", "y": "c"})
    assert table.find("a/b/d") is None

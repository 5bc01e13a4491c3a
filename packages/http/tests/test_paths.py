from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from starfish_http.paths import PathTable

segments = st.sampled_from(["a", "b", "{x}", "{y}", "a{x}", "{x}b"])
templates = st.lists(segments, min_size=1, max_size=3).map("/".join)
paths = st.lists(st.sampled_from(["a", "b", "c", "ab", "aab", ""]), min_size=1, max_size=3).map(
    "/".join
)


def as_pattern(template: str) -> str:
    numbered = iter(range(10))
    parts = re.split(r"(\{\w+\})", template)
    return "".join(
        f"(?P<p{next(numbered)}>[^/]*)" if p.startswith("{") else re.escape(p) for p in parts
    )


@given(st.lists(templates, max_size=8, unique=True), paths)
def test_a_path_finds_a_template_exactly_when_one_matches(found_in: list[str], path: str) -> None:
    table: PathTable[str] = PathTable()
    for template in found_in:
        table.add(template, template)

    found = table.find(path)

    matching = [each for each in found_in if re.fullmatch(as_pattern(each), path)]
    assert (found is None) == (not matching)
    if found is not None:
        assert found[0] in matching


def test_fixed_text_wins_over_a_parameter_and_more_text_over_less() -> None:
    table: PathTable[int] = PathTable()
    for n, template in enumerate(["notes/{n}", "notes/new", "notes/report-{n}"]):
        table.add(template, n)

    assert table.find("notes/new") == (1, {})
    assert table.find("notes/report-7") == (2, {"n": "7"})
    assert table.find("notes/7") == (0, {"n": "7"})
    assert table.get("notes/new") == 1
    assert table.get("notes/old") is None

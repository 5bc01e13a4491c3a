"""Path templates: one key a parameter set, and no key in two families unnoticed."""

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from starfish_server.config._path_template import PathTemplate, namespaced_key, unsafe_key_reason
from starfish_server.errors import ConfigError, InvalidKeyError

LITERALS = st.text("ab.-", min_size=1, max_size=3)
VALUES = st.from_regex(r"[A-Za-z0-9._:@-]{1,8}", fullmatch=True)


@st.composite
def templates(draw: st.DrawFn) -> PathTemplate:
    segments = []
    for index in range(draw(st.integers(1, 4))):
        before, after = (
            draw(st.one_of(st.just(""), LITERALS)),
            draw(st.one_of(st.just(""), LITERALS)),
        )
        parameter = f"{{p{index}}}" if draw(st.booleans()) or not before + after else ""
        segments.append(f"{before}{parameter}{after}")
    try:
        return PathTemplate.parse("/".join(segments))
    except ConfigError:
        assume(condition=False)
        raise


@st.composite
def templates_with_params(draw: st.DrawFn) -> tuple[PathTemplate, dict[str, str]]:
    template = draw(templates())
    params = {name: draw(VALUES) for name in template.parameters}
    return template, params


@given(templates_with_params())
def test_matching_an_expanded_key_gives_its_parameters_back(
    case: tuple[PathTemplate, dict[str, str]],
) -> None:
    template, params = case
    try:
        key = template.expand(params)
    except InvalidKeyError:
        assume(condition=False)
        raise

    assert template.match(key) == params
    assert unsafe_key_reason(key) is None
    if template.parameters:
        assert key.startswith(template.list_prefix(params))


@given(templates_with_params(), templates())
def test_a_key_of_two_families_means_that_they_overlap(
    case: tuple[PathTemplate, dict[str, str]], other: PathTemplate
) -> None:
    template, params = case
    key = "".join(
        params[part] if index % 2 else part
        for index, part in enumerate(re.split(r"\{(\w+)\}", template.text))
    )

    if other.match(key) is not None:
        assert template.overlaps(other)
        assert other.overlaps(template)


def _any_member(one: PathTemplate, other: PathTemplate) -> bool:
    """Looks for a shared key by trying every short one."""
    keys = {""}
    for segment in one.text.split("/"):
        found = re.fullmatch(r"(.*?)(\{\w+\})?([^{}]*)", segment)
        assert found is not None
        fillings = [found[1] + value + found[3] for value in _SHORT] if found[2] else [segment]
        keys = {f"{key}/{filling}" if key else filling for key in keys for filling in fillings}
    return any(other.match(key) is not None for key in keys)


_SHORT = [a + b + c for a in ("", "a", "b") for b in ("", "a", "b") for c in ("a", "b", "c")]
_TINY = st.sampled_from(["a", "b", "{x}", "a{x}", "{x}b", "a{x}b", "ab"])


@given(st.lists(_TINY, min_size=1, max_size=2), st.lists(_TINY, min_size=1, max_size=2))
@example(["a{x}"], ["{x}b"])
@example(["a{x}b"], ["ab"])
def test_overlap_is_what_trying_every_short_key_finds(one: list[str], other: list[str]) -> None:
    first, second = (
        PathTemplate.parse("/".join(s.replace("x", f"x{i}") for i, s in enumerate(segments)))
        for segments in (one, other)
    )

    assert first.overlaps(second) == _any_member(first, second)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("notes/{a}", "notes/{b}", True),
        ("notes/{a}", "notes/today", True),
        ("notes/{a}", "lists/{a}", False),
        ("notes/{a}", "notes/{a}/{b}", False),
        ("{a}/b", "a/{b}", True),
        ("doc-{a}", "{a}.json", True),
        ("doc-{a}", "doc-", False),
        ("a{x}", "b{x}", False),
    ],
)
def test_templates_overlap_when_one_key_fits_both(one: str, other: str, *, expected: bool) -> None:
    assert PathTemplate.parse(one).overlaps(PathTemplate.parse(other)) is expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("/notes", "is empty"),
        ("notes//{a}", "is empty"),
        ("notes/", "is empty"),
        ("notes/{a", "malformed"),
        ("notes/a}", "malformed"),
        ("notes/{a}{b}", "malformed"),
        ("notes/{a}.{b}", "malformed"),
        ("notes/{{a}}", "malformed"),
        ("notes/{}", "not a name"),
        ("notes/{1a}", "not a name"),
        ("notes/{a:path}", "not a name"),
        ("notes/{a-b}", "not a name"),
        ("notes/{é}", "not a name"),
        ("{a}/{a}", "appears twice"),
        ("notes/../{a}", "unsafe"),
        ("./{a}", "unsafe"),
        ("a..{x}", "unsafe"),
        ("no tes/{a}", "may hold only"),
        ("notes?/{a}", "may hold only"),
        ("notes\n", "may hold only"),
        ("n\x00", "may hold only"),
    ],
)
def test_a_malformed_template_is_refused_with_what_is_legal(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PathTemplate.parse(text)


def test_every_problem_of_a_template_is_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        PathTemplate.parse("a b//{x}/{x}/{1}")

    assert len(caught.value.problems) == 4, caught.value.problems


@pytest.mark.parametrize(
    "value", ["", "a/b", "a b", "..", "a..b", ".", "a\n", "a\x00", "é", "a%2e", "~"]
)
def test_a_parameter_that_could_leave_its_segment_is_refused(value: str) -> None:
    template = PathTemplate.parse("notes/{a}/{b}")

    with pytest.raises(InvalidKeyError):
        template.expand({"a": value, "b": "x"})
    with pytest.raises(InvalidKeyError):
        template.list_prefix({"a": value})


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(InvalidKeyError, match="parameter 'b' is missing"):
        PathTemplate.parse("notes/{a}/{b}").expand({"a": "1"})


@pytest.mark.parametrize("key", ["notes/a/", "notes/a/b/c", "notes//b", "notes/a/b\n", "Notes/a/b"])
def test_a_key_outside_the_family_has_no_parameters(key: str) -> None:
    assert PathTemplate.parse("notes/{a}/{b}").match(key) is None


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "a/../b", "a..b", "a/./b", "a\x00", "a\x7f", "\ud800"]
)
def test_an_unsafe_key_has_a_reason(key: str) -> None:
    assert unsafe_key_reason(key) is not None


def test_a_listing_enumerates_the_last_parameter() -> None:
    template = PathTemplate.parse("notes/{identity}/day-{day}/meta")

    assert template.last_parameter == "day"
    assert template.list_path == "notes/{identity}"
    assert template.list_prefix({"identity": "ada"}) == "notes/ada/day-"


def test_a_path_without_parameters_has_nothing_to_list() -> None:
    template = PathTemplate.parse("settings")

    assert template.last_parameter is None
    with pytest.raises(InvalidKeyError, match="nothing to list"):
        template.list_prefix({})


def test_a_namespace_has_its_own_keys() -> None:
    template = PathTemplate.parse("notes/{a}").prefixed("acme")

    assert template.match(namespaced_key("acme", "notes/1")) == {"a": "1"}
    assert template.match("notes/1") is None

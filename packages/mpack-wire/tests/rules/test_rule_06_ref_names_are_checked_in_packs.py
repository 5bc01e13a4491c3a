"""Rule 6: names of branches and tags are checked wherever they come from; here, in packs."""

from __future__ import annotations

import msgpack
import pytest

from starfish_mpack_wire import MPackFormatError, build_mpack, commit_id, parse_wire_mpack
from starfish_mpack_wire._model.ref_names import check_ref_name, is_ref_name
from starfish_mpack_wire._pack.layout import Section
from starfish_mpack_wire.testing.damage import assemble, group_of, records_of, sections_of

BAD = [
    "",
    "@",
    "-x",
    "a..b",
    "../main",
    "/main",
    "main/",
    "a//b",
    ".hidden",
    "a/.hidden",
    "a.",
    "a./b",
    "a.lock",
    "a.LOCK/b",
    "a@{1}",
    "a b",
    "a\tb",
    "main\n",
    "a\x7fb",
    "a\x9bb",
    "a\u202eb",
    "a\u2028b",
    "a~b",
    "a^b",
    "a:b",
    "a?b",
    "a*b",
    "a[b",
    "a\\b",
    "x" * 201,
    "é" * 101,
]
GOOD = ["main", "feature/one", "v1.0", "a@b", "ü", "\U0001f600", "a-b_c+d", "x" * 200, "é" * 100]


@pytest.mark.parametrize("name", BAD)
def test_rule_06_a_bad_name_is_refused_by_builder_and_parser(name: str, history) -> None:
    contents = history()
    body = {**contents["commits"][0], "branch": name}
    commit = {**body, "commit_id": commit_id(body)}
    sections = sections_of(build_mpack(**contents))
    tag = msgpack.packb([name, 0])
    renamed = records_of(sections[Section.COMMITS]).replace(
        msgpack.packb("main"), msgpack.packb(name), 1
    )
    count = len(contents["commits"])

    assert not is_ref_name(name)
    with pytest.raises(MPackFormatError, match="not a name"):
        build_mpack([commit], [], [])
    with pytest.raises(MPackFormatError, match="not a name"):
        build_mpack([], [], [], [{"name": name, "commit_id": commit["commit_id"]}])
    with pytest.raises(MPackFormatError, match="not a name"):
        parse_wire_mpack(assemble({**sections, Section.TAGS: group_of(tag, 1)}))
    with pytest.raises(MPackFormatError, match="not a name"):
        parse_wire_mpack(assemble({**sections, Section.COMMITS: group_of(renamed, count)}))


@pytest.mark.parametrize("name", GOOD, ids=lambda name: name[:10])
def test_rule_06_other_names_pass(name: str) -> None:
    assert check_ref_name(name) == name


@pytest.mark.parametrize("name", [None, b"main", 7, ["main"]])
def test_rule_06_what_is_no_text_is_no_name(name) -> None:
    with pytest.raises(MPackFormatError):
        check_ref_name(name)

"""Configuration files: every problem is told in the words of the file."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_server.config._loader import load_config, parse_config
from starfish_server.config.schema import SyncConfig
from starfish_server.errors import ConfigError

NOTES = {"name": "notes", "storagePath": "notes/{identity}/{note}", "readRoles": ["self"]}


def problems_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return caught.value.problems


def test_json_and_toml_give_the_same_configuration(tmp_path: Path) -> None:
    as_json, as_toml = tmp_path / "starfish.json", tmp_path / "starfish.toml"
    as_json.write_text(json.dumps({"collections": [NOTES]}))
    as_toml.write_text(
        '[[collections]]\nname = "notes"\nstoragePath = "notes/{identity}/{note}"\n'
        'readRoles = ["self"]\n'
    )

    assert load_config(as_json) == load_config(str(as_toml)) == SyncConfig(collections=[NOTES])


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "starfish.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"collections": [NOTES]}).encode())

    assert load_config(path).collections[0].name == "notes"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b'{"collections": [\n  {"name" "notes"}]}', "not JSON at line 2, column 11"),
        ("a.json", b"", "not JSON at line 1, column 1"),
        ("a.json", b'{"a": 1, "a": 2}', "'a' appears twice"),
        ("a.json", b'{"collections": [], "rateLimit": {"windowMs": NaN}}', "NaN is not a JSON number"),
        ("a.json", b"\xff\xfe", "not UTF-8"),
        ("a.json", b'{"a": ' + b"9" * 5000 + b"}", "number that cannot be read"),
        ("a.json", b"[" * 200_000, "nested too deeply"),
        ("a.json", b"[]", "the configuration: "),
        ("a.json", b'"x"', "the configuration: "),
        ("a.json", b"{}", "collections: Field required"),
        ("a.toml", b"[[collections]\n", "line 1"),
        ("a.toml", b"a = 1\na = 2\n", "is not TOML"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_with_the_place(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    (problem,) = problems_of(path)
    assert said in problem


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "No such file" in problems_of(tmp_path / "nothing.json")[0]
    assert "Is a directory" in problems_of(tmp_path)[0]


def test_problems_of_fields_and_of_the_whole_are_listed_together() -> None:
    raw = {
        "version": 2,
        "collections": [
            {"name": "broken"},
            {"name": "a", "storagePath": "a/{x}", "readRole": ["public"]},
            {"name": "b", "storagePath": "b/{x}"},
            {"name": "c", "storagePath": "b/{y}", "maxBodyBytes": 0},
            {"name": "d", "storagePath": "b/today"},
        ],
        "namespaces": {"pull": {"collections": [{"name": "e", "storagePath": "e/{"}]}},
    }

    with pytest.raises(ConfigError) as caught:
        parse_config(raw)

    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "version",
        "collections[0].storagePath",
        "collections[1].readRole",
        "collections[3].maxBodyBytes",
        "namespaces.pull",
        "namespaces.pull.collections[0].storagePath",
        "collections[4].storagePath",
    ]
    assert "did you mean 'readRoles'?" in str(caught.value)
    assert "greater than 0, not 0" in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "collections", "namespaces", "name", "storagePath", "readRoles", "rateLimit", "push",
            "objectSchema", "appendOnly", "fieldPermissions", "version", "type", "$ref", "bundle",
        ]),
        inner,
        max_size=5,
    ),
    max_leaves=30,
)  # fmt: skip
COLLECTION = st.fixed_dictionaries(
    {"name": st.text(max_size=3), "storagePath": st.text("a/{}x.", max_size=8)},
    optional={
        "readRoles": JSON,
        "objectSchema": JSON,
        "bundle": st.sampled_from(["b", ""]),
        "listable": st.booleans(),
        "appendOnly": st.fixed_dictionaries({"type": st.just("by_timestamp")}),
        "allowedMimeTypes": st.lists(st.sampled_from(["application/json", "a/b", "", "*"])),
        "rateLimit": JSON,
        "fieldPermissions": JSON,
    },
)


@given(
    JSON
    | st.fixed_dictionaries(
        {"collections": st.lists(COLLECTION, max_size=4)},
        optional={
            "namespaces": st.dictionaries(
                st.text(max_size=3),
                st.fixed_dictionaries({"collections": st.lists(COLLECTION, max_size=2)}),
            )
        },
    )
)
@example({"collections": [{"name": "\ud800", "storagePath": "\ud800"}]})
@example({"namespaces": {"a b": {"collections": [{"name": "a", "storagePath": "a"}]}}})
def test_whatever_is_parsed_is_served_or_refused_with_reasons(raw: Any) -> None:
    outcome: SyncConfig | tuple[str, ...]
    try:
        outcome = parse_config(raw)
    except ConfigError as error:
        outcome = error.problems

    assert isinstance(outcome, SyncConfig) or (outcome and all(outcome))

from __future__ import annotations

from typing import Any

import pytest

from starfish_http.entity_tags import (
    WriteConditions,
    etag_of,
    is_not_modified,
    write_conditions,
)
from starfish_http.errors import RequestRefusedError


def scope(name: bytes, *values: bytes) -> dict[str, Any]:
    return {"type": "http", "headers": [(b"host", b"x"), *((name, value) for value in values)]}


@pytest.mark.parametrize(
    ("lines", "holds"),
    [
        ([b'"a"'], True), ([b'W/"a"'], True), ([b"*"], True), ([b'"b", "a"'], True),
        ([b'"b"', b'"a"'], True), ([b'"b"'], False), ([], False), ([b"a"], False), ([b'"b,a"'], False),
    ],
)  # fmt: skip
def test_a_read_is_not_modified_when_one_tag_of_any_line_is_the_stored_one(
    lines: list[bytes],
    holds: bool,  # noqa: FBT001
) -> None:
    assert is_not_modified(scope(b"if-none-match", *lines), etag_of("a")) is holds


@pytest.mark.parametrize(
    ("name", "lines", "stored", "holds"),
    [
        (b"if-match", [b'"a"'], b'"a"', True),
        (b"if-match", [b'"b"', b'"a"'], b'"a"', True),
        (b"if-match", [b'"b"'], b'"a"', False),
        (b"if-match", [b'W/"a"'], b'"a"', False),
        (b"if-match", [b"*"], b'"a"', True),
        (b"if-match", [b"*"], None, False),
        (b"if-match", [b'"a"'], None, False),
        (b"if-none-match", [b"*"], b'"a"', False),
        (b"if-none-match", [b"*"], None, True),
        (b"if-none-match", [b'"b", W/"a"'], b'"a"', False),
        (b"if-none-match", [b'"b"'], b'"a"', True),
    ],
)
def test_conditions_of_a_write(
    name: bytes,
    lines: list[bytes],
    stored: bytes | None,
    holds: bool,  # noqa: FBT001
) -> None:
    conditions = write_conditions(scope(name, *lines))

    assert conditions is not None
    assert conditions.hold(stored) is holds
    if holds:
        conditions.check(stored)
    else:
        with pytest.raises(RequestRefusedError) as refusal:
            conditions.check(stored)
        assert refusal.value.status == 412


def test_a_write_without_conditions_has_none() -> None:
    assert write_conditions(scope(b"accept", b"*/*")) is None
    assert WriteConditions().hold(None)


@pytest.mark.parametrize("line", [b"a", b'"a', b'"a" b', b'*, "a"', b'"a"*', b"", b'w/"a"'])
def test_a_condition_that_is_not_a_list_of_tags_is_400(line: bytes) -> None:
    for name in (b"if-match", b"if-none-match"):
        with pytest.raises(RequestRefusedError) as refusal:
            write_conditions(scope(name, line))
        assert refusal.value.status == 400

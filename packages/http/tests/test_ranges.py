from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starfish_http.errors import RequestRefusedError
from starfish_http.ranges import ByteRange, range_of, requested_range


def scope(*headers: tuple[bytes, bytes], method: str = "GET") -> dict[str, Any]:
    return {"type": "http", "method": method, "headers": list(headers)}


@given(st.integers(0, 30), st.one_of(st.none(), st.integers(0, 30)), st.integers(0, 20))
def test_a_range_gives_the_bytes_that_slicing_gives(
    first: int, last: int | None, size: int
) -> None:
    content = bytes(range(size))
    wanted = content[first : None if last is None else last + 1]
    text = f"bytes={first}-{'' if last is None else last}"
    try:
        found = requested_range(text, size)
    except RequestRefusedError as refusal:
        assert refusal.status == 416  # noqa: PT017 - the other outcome is as good
        assert wanted == b""
        return

    if last is not None and last < first:
        assert found is None
    else:
        assert found is not None
        assert content[found.start : found.end] == wanted != b""
        assert found.content_range(size) == f"bytes {found.start}-{found.end - 1}/{size}"


@given(st.integers(0, 30), st.integers(0, 20))
def test_a_suffix_is_the_end_of_the_content(length: int, size: int) -> None:
    content = bytes(range(size))
    try:
        found = requested_range(f"bytes=-{length}", size)
    except RequestRefusedError:
        assert length == 0 or size == 0
        return

    assert found is not None
    assert content[found.start : found.end] == content[-length:]


@pytest.mark.parametrize(
    "text", [None, "", "bytes=-", "lines=0-1", "bytes=0-1,3-4", "bytes=a-b", "bytes=5-2"]
)
def test_a_header_that_is_not_one_range_is_ignored(text: str | None) -> None:
    assert requested_range(text, 10) is None


def test_only_get_has_ranges_and_two_lines_are_none() -> None:
    line = (b"range", b"bytes=0-0")

    assert range_of(scope(line), 10) == ByteRange(0, 1)
    assert range_of(scope(line, method="HEAD"), 10) is None
    assert range_of(scope(line, line), 10) is None
    assert range_of(scope(), 10) is None


@pytest.mark.parametrize(
    ("condition", "applies"),
    [(b'"a"', True), (b'"b"', False), (b'W/"a"', False), (b"Tue, 01 Dec 2026 00:00:00 GMT", False)],
)
def test_a_range_for_another_version_is_the_whole_content(condition: bytes, applies: bool) -> None:  # noqa: FBT001
    found = range_of(scope((b"range", b"bytes=0-0"), (b"if-range", condition)), 10, b'"a"')

    assert (found is not None) is applies


def test_a_range_beyond_the_end_is_told_the_size() -> None:
    with pytest.raises(RequestRefusedError) as refusal:
        requested_range("bytes=10-", 10)

    assert refusal.value.headers == {"content-range": "bytes */10"}

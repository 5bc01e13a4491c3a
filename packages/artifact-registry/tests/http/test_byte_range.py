"""``Range`` picks the bytes that the standard says it picks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="needs the extra http")

from starfish_artifact_registry.http._byte_range import (
    ByteRange,
    RangeNotSatisfiableError,
    requested_range,
)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=0-10", 0, 10),
        ("bytes=9-", 9, 10),
        ("bytes=-1", 9, 10),
        ("bytes=-99", 0, 10),
        ("Bytes= 3-4", 3, 5),
        (f"bytes=0-{10**17}", 0, 10),
    ],
)
def test_a_range_is_cut_to_what_exists(header: str, start: int, end: int) -> None:
    assert requested_range(header, 10) == ByteRange(start, end)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=-0"])
def test_a_range_without_any_byte_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiableError):
        requested_range(header, 10)


@pytest.mark.parametrize(
    "header",
    [
        None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1-0", "bytes=0-1,3-4", "bytes=--1",
        "lines=0-1", "bytes=+1-2", "bytes=1", f"bytes={'9' * 19}-", "bytes=\u0661-\u0662",
    ],
)  # fmt: skip
def test_what_is_no_single_range_is_ignored(header: str | None) -> None:
    assert requested_range(header, 10) is None


@given(
    content=st.binary(min_size=1, max_size=20), first=st.integers(0, 25), last=st.integers(0, 25)
)
def test_a_range_is_a_slice(content: bytes, first: int, last: int) -> None:
    header = f"bytes={first}-{last}"
    expected = content[first : last + 1]

    if last < first:
        assert requested_range(header, len(content)) is None
    elif not expected:
        with pytest.raises(RangeNotSatisfiableError):
            requested_range(header, len(content))
    else:
        found = requested_range(header, len(content))
        assert found is not None
        assert content[found.start : found.end] == expected
        assert found.content_range(len(content)) == (
            f"bytes {first}-{first + len(expected) - 1}/{len(content)}"
        )

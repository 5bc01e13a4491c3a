"""Three-way merges as decisions: of lines, and of whole snapshots."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from starfish_mpack_wire._model.three_way import merge_entries, merge_texts

lines = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"d\n"]), max_size=8).map(b"".join)


@given(lines, lines)
def test_a_side_that_changed_nothing_gives_the_other(base: bytes, other: bytes) -> None:
    assert merge_texts(base, base, other) == other
    assert merge_texts(base, other, base) == other
    assert merge_texts(base, other, other) == other


@given(lines, lines, lines)
def test_sides_may_be_swapped(base: bytes, one: bytes, two: bytes) -> None:
    assert merge_texts(base, one, two) == merge_texts(base, two, one)


@given(st.integers(0, 6), st.integers(0, 6), st.binary(max_size=3), st.binary(max_size=3))
def test_changes_of_lines_apart_are_both_there(
    first: int, second: int, one: bytes, two: bytes
) -> None:
    base = [b"line %d\n" % number for number in range(16)]
    ours, theirs = list(base), list(base)
    ours[first] = b"ours " + one.hex().encode() + b"\n"
    theirs[second + 9] = b"theirs " + two.hex().encode() + b"\n"
    both = list(ours)
    both[second + 9] = theirs[second + 9]

    assert merge_texts(b"".join(base), b"".join(ours), b"".join(theirs)) == b"".join(both)


def test_bytes_that_are_no_text_and_lines_that_both_changed_are_not_merged() -> None:
    assert merge_texts(b"\0", b"\0a", b"b\0") is None
    assert merge_texts(b"a\nb\n", b"x\nb\n", b"y\nb\n") is None
    assert merge_texts(b"", b"x\n", b"y\n") is None


names = st.sampled_from(["a", "b", "a/c", "d/e"])
manifests = st.dictionaries(names, st.sampled_from(["1", "2", "3"]), max_size=4).filter(
    lambda entries: not ("a" in entries and "a/c" in entries)
)


@given(manifests, manifests, manifests)
def test_a_merge_of_snapshots_loses_no_change_and_gives_a_snapshot(base, ours, theirs) -> None:
    merged = merge_entries(base, ours, theirs, lambda *_: None)
    in_conflict = {each.path for each in merged.conflicts}

    assert not ("a" in merged.entries and "a/c" in merged.entries)
    for path in {*base, *ours, *theirs}:
        was, own, other = base.get(path), ours.get(path), theirs.get(path)
        found = merged.entries.get(path)
        if path in in_conflict:
            assert found == own
        elif own == was:
            assert found == other
        else:
            assert found == own
            assert other in (was, own)


def test_programs_and_their_bytes_are_merged_apart() -> None:
    program = {"kind": "executable", "id": "1"}
    merged = merge_entries({"x": "1"}, {"x": program}, {"x": "2"}, lambda *_: None)

    assert merged.entries == {"x": {"kind": "executable", "id": "2"}}
    assert merged.conflicts == ()

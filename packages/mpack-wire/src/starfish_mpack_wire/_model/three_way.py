"""Three-way merge of whole snapshots and of texts: decisions over values, no files.

Rule: what one side left alone is as the other side has it; where both changed the same, the sides are kept apart
and nothing is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from starfish_mpack_wire._model.entries import Entry, EntryKind, entry_of, id_of, kind_of

__all__ = ("MergeConflict", "Merged", "merge_entries", "merge_texts")

MOST_LINES = 20_000
"""Of one text: finding equal lines takes time that grows with the square of their number."""

MergeBlobs = Callable[[str, str, str], str | None]
"""The blob that base, ours and theirs make together, or ``None``."""

_KINDS_OF_FILES: tuple[EntryKind, ...] = ("file", "executable")


@dataclass(frozen=True, slots=True)
class MergeConflict:
    """A path that both sides changed; ``None`` for a side that does not have it."""

    path: str
    base: Entry | None
    ours: Entry | None
    theirs: Entry | None


@dataclass(frozen=True, slots=True)
class Merged:
    """Two snapshots as one."""

    entries: Mapping[str, Entry]
    """Conflicts as on our side; a path of theirs that our side has a folder at, or a file above, is left out."""
    conflicts: tuple[MergeConflict, ...]
    """By path."""


def merge_entries(
    base: Mapping[str, Entry],
    ours: Mapping[str, Entry],
    theirs: Mapping[str, Entry],
    merge_blobs: MergeBlobs,
) -> Merged:
    """Merge two manifests that come from a third.

    Args:
        base: the manifest of the common ancestor.
        ours: where the result goes.
        theirs: the changes to bring in.
        merge_blobs: merges the bytes of files that both sides changed.

    Examples:
        >>> found = merge_entries({"a": "1"}, {"a": "1", "b": "2"}, {"a": "3"}, lambda *_: None)
        >>> found.entries, found.conflicts
        ({'a': '3', 'b': '2'}, ())
    """
    merged = dict(ours)
    conflicts: dict[str, MergeConflict] = {}
    brought: list[str] = []
    for path in sorted(base.keys() | theirs.keys()):
        was, own, other = base.get(path), ours.get(path), theirs.get(path)
        if other in (was, own):
            continue
        if own == was:
            if other is None:
                del merged[path]
            else:
                merged[path] = other
                brought.append(path)
            continue
        together = _merge_one(was, own, other, merge_blobs)
        if together is None:
            conflicts[path] = MergeConflict(path, was, own, other)
        else:
            merged[path] = together
    folders = {above for path in ours if path in merged for above in _folders_above(path)}
    for path in brought:
        in_the_way = path in folders or any(above in merged for above in _folders_above(path))
        if in_the_way:
            del merged[path]
            conflicts[path] = MergeConflict(path, base.get(path), ours.get(path), theirs[path])
    return Merged(merged, tuple(conflicts[path] for path in sorted(conflicts)))


def _merge_one(
    was: Entry | None, own: Entry | None, other: Entry | None, merge_blobs: MergeBlobs
) -> Entry | None:
    if was is None or own is None or other is None:
        return None
    kinds: list[EntryKind] = [kind_of(each) for each in (was, own, other)]
    if any(kind not in _KINDS_OF_FILES for kind in kinds):
        return None
    kind = kinds[2] if kinds[1] == kinds[0] else kinds[1]
    ids = [id_of(each) for each in (was, own, other)]
    if ids[1] in (ids[0], ids[2]):
        return entry_of(kind, ids[2])
    if ids[2] == ids[0]:
        return entry_of(kind, ids[1])
    blob = merge_blobs(ids[0], ids[1], ids[2])
    return None if blob is None else entry_of(kind, blob)


def _folders_above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def merge_texts(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    r"""Merge two texts line by line; ``None`` where both changed the same lines, or one is not a text.

    Examples:
        >>> merge_texts(b"a\nb\nc\n", b"A\nb\nc\n", b"a\nb\nC\n")
        b'A\nb\nC\n'
        >>> merge_texts(b"a\n", b"b\n", b"c\n") is None
        True
    """
    if any(b"\0" in each for each in (base, ours, theirs)):
        return None
    lines = [each.splitlines(keepends=True) for each in (base, ours, theirs)]
    if max(map(len, lines)) > MOST_LINES:
        return None
    was, own, other = lines
    merged: list[bytes] = []
    at = (0, 0, 0)
    for start, own_start, other_start, length in [
        *_unchanged(was, own, other),
        (len(was), len(own), len(other), 0),
    ]:
        before = was[at[0] : start]
        one, two = own[at[1] : own_start], other[at[2] : other_start]
        if one in (before, two):
            merged += two
        elif two == before:
            merged += one
        else:
            return None
        merged += was[start : start + length]
        at = (start + length, own_start + length, other_start + length)
    return b"".join(merged)


def _unchanged(
    was: list[bytes], own: list[bytes], other: list[bytes]
) -> list[tuple[int, int, int, int]]:
    """Runs of lines that all three have: where they begin in each, and how many lines they are."""
    one = SequenceMatcher(None, was, own, autojunk=False).get_matching_blocks()
    two = SequenceMatcher(None, was, other, autojunk=False).get_matching_blocks()
    found: list[tuple[int, int, int, int]] = []
    first = second = 0
    while first < len(one) and second < len(two):
        a, b = one[first], two[second]
        start, end = max(a.a, b.a), min(a.a + a.size, b.a + b.size)
        if start < end:
            found.append((start, a.b + start - a.a, b.b + start - b.a, end - start))
        if a.a + a.size < b.a + b.size:
            first += 1
        else:
            second += 1
    return found

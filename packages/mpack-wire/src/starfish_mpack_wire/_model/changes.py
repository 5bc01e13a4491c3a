"""How one snapshot differs from another, path by path, and line by line where it is text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import diff_bytes, unified_diff

from starfish_mpack_wire._model.entries import Entry, blob_of, id_of, kind_of

__all__ = ("Change", "changes_between", "text_of_change")

LARGEST_TEXT_BYTES = 1024 * 1024
_BINARY_LOOKED_AT = 8_000


@dataclass(frozen=True, slots=True)
class Change:
    """A path that differs."""

    path: str
    before: Entry | None
    """``None`` for a path that is new."""
    after: Entry | None
    """``None`` for a path that is gone."""

    @property
    def word(self) -> str:
        """``new``, ``removed`` or ``changed``."""
        if self.before is None:
            return "new"
        return "removed" if self.after is None else "changed"


def changes_between(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[Change]:
    """Return the paths in which two manifests differ, sorted.

    Examples:
        >>> [(each.word, each.path) for each in changes_between({"a": "1", "b": "2"}, {"b": "3", "c": "4"})]
        [('removed', 'a'), ('changed', 'b'), ('new', 'c')]
    """
    return [
        Change(path, before.get(path), after.get(path))
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]


def text_of_change(
    change: Change,
    length_of: Callable[[str], int],
    read_before: Callable[[str], bytes],
    read_after: Callable[[str], bytes],
) -> Iterator[bytes]:
    """Return the lines of a unified diff of one path, without control characters taken out.

    Args:
        change: the path.
        length_of: tells how many bytes a blob has, before or after, so that large ones are not read.
        read_before: gives the bytes of a blob before the change.
        read_after: gives those after it.
    """
    path = change.path
    yield f"--- {f'a/{path}' if change.before is not None else '/dev/null'}\n".encode()
    yield f"+++ {f'b/{path}' if change.after is not None else '/dev/null'}\n".encode()
    kinds = [None if each is None else kind_of(each) for each in (change.before, change.after)]
    if kinds[0] != kinds[1] and None not in kinds:
        yield f"kind {kinds[0]} -> {kinds[1]}\n".encode()
    sides: list[list[bytes]] = []
    for entry, read in ((change.before, read_before), (change.after, read_after)):
        blob = None if entry is None else blob_of(entry)
        if entry is None:
            sides.append([])
        elif blob is None:
            sides.append([f"commit {id_of(entry)}\n".encode()])
        elif length_of(blob) > LARGEST_TEXT_BYTES:
            yield b"large files differ\n"
            return
        else:
            content = read(blob)
            if b"\0" in content[:_BINARY_LOOKED_AT]:
                yield b"binary files differ\n"
                return
            sides.append(content.splitlines(keepends=True))
    lines = diff_bytes(unified_diff, sides[0], sides[1], n=3)
    for number, line in enumerate(lines):
        if number < 2:  # its own names of the files
            continue
        yield line
        if not line.endswith(b"\n"):
            yield b"\n\\ No newline at end of file\n"

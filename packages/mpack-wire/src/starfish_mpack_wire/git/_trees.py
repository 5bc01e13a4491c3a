"""Trees of git: their raw bytes taken apart, and put together as every git of today writes them.

A tree is *odd* when its bytes are not those that git would write today for the same entries: old versions padded
modes with zeros, kept group bits (``100664``) or sorted otherwise. The bytes of odd trees are kept as they are.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from starfish_mpack_wire._model.entries import Entry, entry_of
from starfish_mpack_wire.errors import GitError

__all__ = (
    "TreeLine",
    "entry_for",
    "is_odd",
    "line_for",
    "name_from_git",
    "name_to_git",
    "parse_tree",
    "tree_bytes",
)

FOLDER, PLAIN, PROGRAM, LINK, SUBMODULE = b"40000", b"100644", b"100755", b"120000", b"160000"

_ESCAPES = 0xF700
"""A byte that a name of a snapshot cannot hold becomes a private character, this number higher."""


class TreeLine(NamedTuple):
    """One entry of a tree."""

    mode: bytes
    name: bytes
    sha: bytes
    """20 bytes."""

    @property
    def is_folder(self) -> bool:
        """Whether it leads to another tree."""
        return stat.S_ISDIR(int(self.mode, 8))

    @property
    def is_submodule(self) -> bool:
        """Whether it pins a commit of another repository."""
        return stat.S_IFMT(int(self.mode, 8)) == int(SUBMODULE, 8)


def parse_tree(raw: bytes) -> list[TreeLine]:
    """Return the entries of a raw tree, in their order.

    Raises:
        GitError: the bytes are not a tree.
    """
    lines: list[TreeLine] = []
    at = 0
    while at < len(raw):
        space = raw.find(b" ", at)
        nul = raw.find(b"\0", space)
        if space < 0 or nul < 0 or nul + 21 > len(raw) or not raw[at:space].isdigit():
            raise GitError("a tree of git is damaged")
        lines.append(TreeLine(raw[at:space], raw[space + 1 : nul], raw[nul + 1 : nul + 21]))
        at = nul + 21
    return lines


def tree_bytes(lines: Iterable[TreeLine]) -> bytes:
    """Return the bytes of a tree as git writes it today."""
    ordered = sorted(lines, key=lambda line: line.name + b"/" if line.mode == FOLDER else line.name)
    return b"".join(b"%s %s\0%s" % (line.mode, line.name, line.sha) for line in ordered)


def is_odd(raw: bytes, lines: Iterable[TreeLine]) -> bool:
    """Return whether a tree has other bytes than git would write today."""
    return tree_bytes(line._replace(mode=_mode_today(line)) for line in lines) != raw


def _mode_today(line: TreeLine) -> bytes:
    if line.is_folder:
        return FOLDER
    if line.is_submodule:
        return SUBMODULE
    mode = int(line.mode, 8)
    if stat.S_ISLNK(mode):
        return LINK
    return PROGRAM if mode & 0o100 else PLAIN


def entry_for(line: TreeLine, blob: str) -> Entry:
    """Return the entry of a snapshot for an entry of a tree.

    Args:
        line: of a file, link or submodule.
        blob: the blob id of its bytes; not looked at for a submodule.
    """
    mode = _mode_today(line)
    if mode == SUBMODULE:
        return entry_of("gitlink", "sha1:" + line.sha.hex())
    if mode == LINK:
        return entry_of("symlink", blob)
    return entry_of("executable" if mode == PROGRAM else "file", blob)


def line_for(name: str, entry: Entry, blob_sha: bytes) -> TreeLine:
    """Return the entry of a tree for an entry of a snapshot.

    Raises:
        GitError: a gitlink whose commit is not one of SHA-1.
    """
    if isinstance(entry, str):
        return TreeLine(PLAIN, name_to_git(name), blob_sha)
    if entry["kind"] == "gitlink":
        if not entry["id"].startswith("sha1:"):
            raise GitError(f"the submodule at {name!r:.200} pins {entry['id']}, not a SHA-1")
        return TreeLine(SUBMODULE, name_to_git(name), bytes.fromhex(entry["id"][5:]))
    mode = {"executable": PROGRAM, "symlink": LINK}.get(entry["kind"], PLAIN)
    return TreeLine(mode, name_to_git(name), blob_sha)


def name_from_git(name: bytes) -> str:
    r"""Return a name of a snapshot for a name of git, from which `name_to_git` gets it back.

    Examples:
        >>> name_from_git(b"caf\xc3\xa9"), ascii(name_from_git(b"caf\xe9")), ascii(name_from_git(b"a\\b"))
        ('café', "'caf\\uf7e9'", "'a\\uf75cb'")
    """
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = ""
    if text and "\\" not in text and not any(0xF700 <= ord(each) <= 0xF7FF for each in text):
        return text
    return "".join(_escaped(name))


def _escaped(name: bytes) -> Iterator[str]:
    for character in name.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            yield chr(_ESCAPES + code - 0xDC00)
        elif character == "\\" or 0xF700 <= code <= 0xF7FF:
            yield from (chr(_ESCAPES + byte) for byte in character.encode())
        else:
            yield character


def name_to_git(name: str) -> bytes:
    r"""Return the name of git for a name of a snapshot.

    Examples:
        >>> name_to_git(name_from_git(b"caf\xe9"))
        b'caf\xe9'
    """
    if name.isascii():
        return name.encode()
    return b"".join(
        bytes((ord(each) - _ESCAPES,)) if 0xF700 <= ord(each) <= 0xF7FF else each.encode()
        for each in name
    )

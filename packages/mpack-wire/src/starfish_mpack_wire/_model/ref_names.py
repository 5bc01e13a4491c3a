"""Names of branches and tags: those that git accepts, with a cap on their length.

A name becomes part of a path on both sides, so it is checked on both, for every sender.
"""

from __future__ import annotations

import re

from starfish_mpack_wire.errors import MPackFormatError

__all__ = ("MAX_REF_NAME_BYTES", "check_ref_name", "is_ref_name")

MAX_REF_NAME_BYTES = 200
"""Longest name in UTF-8; a file of that name with a suffix fits any file system."""

# Refused: control characters (C0, DEL, C1), what turns text around or breaks lines, what git or a
# shell gives a meaning to, a part that is empty or begins with a dot, or ends with one or in .lock.
_REF_NAME = re.compile(
    r"""
    (?! - | .*\.\. | .*@\{ )
    [^\x00-\x20\x7f-\xa0\u2028-\u202e\u2066-\u2069\ud800-\udfff~^:?*\[\\]+
    """,
    re.VERBOSE | re.DOTALL,
)
_ALLOWED = (
    "it must have parts with / between them, none empty, beginning or ending with a dot or ending in "
    ".lock, without space, control characters, .., @{ and any of ~^:?*[\\, not beginning with -, "
    f"at most {MAX_REF_NAME_BYTES} bytes of UTF-8"
)


def is_ref_name(name: object) -> bool:
    """Tell whether a branch or tag may have this name.

    Examples:
        >>> is_ref_name("feature/one"), is_ref_name("../main"), is_ref_name("a.lock/b")
        (True, False, False)
    """
    if type(name) is not str or name == "@" or _REF_NAME.fullmatch(name) is None:
        return False
    for part in name.split("/"):
        if not part or part[0] == "." or part[-1] == "." or part.lower().endswith(".lock"):
            return False
    return len(name.encode()) <= MAX_REF_NAME_BYTES


def check_ref_name(name: object) -> str:
    """Give the name back when a branch or tag may have it.

    Raises:
        MPackFormatError: it may not.
    """
    if type(name) is str and is_ref_name(name):
        return name
    raise MPackFormatError(f"{name!r:.220} is not a name of a branch or tag; {_ALLOWED}")

"""Records that a caller hands in: maps with the members that they must have, before anything is made of them.

What the members hold is checked where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starfish_mpack_wire.errors import MPackFormatError

__all__ = ("BLOB", "CHUNKED", "COMMIT", "SNAPSHOT", "TAG", "check_members")

_LIST: Final = (list, tuple, set, frozenset)

COMMIT: Final = {"commit_id": (str,)}
"""The others of a commit are those that its id is made of; that checks them."""
SNAPSHOT: Final = {
    "snapshot_id": (str,),
    "parent_snapshot_id": (str, type(None)),
    "upsert": (dict,),
    "remove": _LIST,
    "directories": _LIST,
}
BLOB: Final = {"object_id": (str,), "content": (bytes, bytearray, memoryview)}
CHUNKED: Final = {"object_id": (str,), "chunks": _LIST}
TAG: Final = {"name": (str,), "commit_id": (str,)}


def check_members(kind: str, record: object, members: Mapping[str, tuple[type, ...]]) -> None:
    """Return if a record is a map that has these members.

    Raises:
        MPackFormatError: it is not, or lacks one, or one is of another type.
    """
    if not isinstance(record, dict):
        raise MPackFormatError(f"a {kind} that is not a map")
    for name, types in members.items():
        if name not in record:
            raise MPackFormatError(f"a {kind} without {name!r}")
        if not isinstance(record[name], types):
            raise MPackFormatError(f"{name!r} of a {kind} is of another type")

"""Entity tags and the conditions that name them (RFC 9110, section 13)."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import Scope

from starfish_server.requests._refusals import RequestRefusedError

__all__ = ("etag_of", "is_not_modified", "write_condition")

_ENTITY_TAG = re.compile(rb'(W/)?("[^"]*")')


def etag_of(hash_: str) -> bytes:
    """The tag of a document with this hash."""
    return b'"%b"' % hash_.encode()


def is_not_modified(scope: Scope, etag: bytes) -> bool:
    """Whether the client holds this version already; several header lines are one list."""
    wanted = _field(scope, b"if-none-match")
    return wanted is not None and (wanted == b"*" or etag in _tags(wanted))


def write_condition(scope: Scope) -> Callable[[str], None] | None:
    """What ``If-Match`` and ``If-None-Match`` demand of the version that a write replaces.

    Returns:
        A function of the hash of the current version, the empty string where there is none; it
        raises 412 where the write must not happen. ``None`` for an unconditional write.
    """
    match, none_match = _field(scope, b"if-match"), _field(scope, b"if-none-match")
    if match is None and none_match is None:
        return None

    def check(current: str) -> None:
        tag = etag_of(current)
        if match is not None and not (
            bool(current) if match == b"*" else tag in _tags(match, weak=False)
        ):
            raise _failed()
        if none_match is not None and (
            bool(current) if none_match == b"*" else tag in _tags(none_match)
        ):
            raise _failed()

    return check


def _field(scope: Scope, name: bytes) -> bytes | None:
    lines = [bytes(value).strip() for key, value in scope["headers"] if key == name]
    return b", ".join(lines) if lines else None


def _tags(field: bytes, *, weak: bool = True) -> set[bytes]:
    return {tag for prefix, tag in _ENTITY_TAG.findall(field) if weak or not prefix}


def _failed() -> RequestRefusedError:
    return RequestRefusedError(412, "precondition_failed")

"""Entity tags and the conditions on them (RFC 9110, sections 8.8.3 and 13.1), of reads and of writes.

Several header lines of one name are one list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.types import Scope

from starfish_http.errors import RequestRefusedError

__all__ = ("WriteConditions", "etag_of", "is_not_modified", "write_conditions")

_TAG = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LIST = re.compile(rb'[\s,]*(?:(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"[\s,]*)+')
_ANY = b"*"


def etag_of(text: str) -> bytes:
    """The strong tag of the content with this hash or address.

    Examples:
        >>> etag_of("ab")
        b'"ab"'
    """
    return b'"%b"' % text.encode("latin-1")


def is_not_modified(scope: Scope, etag: bytes) -> bool:
    """Whether the client of a read holds this version already (``If-None-Match``, weak comparison)."""
    wanted = _field(scope, b"if-none-match")
    if wanted is None:
        return False
    return wanted == _ANY or _opaque(etag) in map(_opaque, _TAG.findall(wanted))


@dataclass(frozen=True, slots=True)
class WriteConditions:
    """What a write wants to be true of the version that it replaces."""

    if_match: tuple[bytes, ...] | None = None
    """One of these tags, in quotes; ``(b"*",)`` for any version; ``None`` for no such condition."""
    if_none_match: tuple[bytes, ...] | None = None
    """None of these tags; ``(b"*",)`` for no version at all; ``None`` for no such condition."""

    def hold(self, etag: bytes | None) -> bool:
        """Whether they are true of a version.

        Args:
            etag: its strong tag, in quotes; ``None`` where nothing is stored.

        Examples:
            >>> WriteConditions(if_none_match=(b"*",)).hold(None)
            True
            >>> WriteConditions(if_match=(b'"a"', b'"b"')).hold(b'"c"')
            False
        """
        if self.if_match is not None:
            if etag is None:
                return False
            # Strong comparison: a weak tag matches nothing.
            if self.if_match != (_ANY,) and etag not in self.if_match:
                return False
        if self.if_none_match is None or etag is None:
            return True
        return self.if_none_match != (_ANY,) and _opaque(etag) not in map(
            _opaque, self.if_none_match
        )

    def check(self, etag: bytes | None) -> None:
        """Refuse a write whose conditions do not hold; decide it where the store decides, too.

        Raises:
            RequestRefusedError: 412.
        """
        if not self.hold(etag):
            raise RequestRefusedError(
                412, "precondition_failed", "another version is stored than the write expects"
            )


def write_conditions(scope: Scope) -> WriteConditions | None:
    """The conditions of a write, ``None`` when it has none.

    Raises:
        RequestRefusedError: 400, a header is not a list of tags.
    """
    if_match = _tags(scope, b"if-match")
    if_none_match = _tags(scope, b"if-none-match")
    if if_match is None and if_none_match is None:
        return None
    return WriteConditions(if_match, if_none_match)


def _tags(scope: Scope, name: bytes) -> tuple[bytes, ...] | None:
    field = _field(scope, name)
    if field is None:
        return None
    if field == _ANY:
        return (_ANY,)
    if _LIST.fullmatch(field) is None:
        raise RequestRefusedError(
            400,
            "malformed_condition",
            f"{name.decode()} must be * or a list of entity tags in quotes",
        )
    return tuple(_TAG.findall(field))


def _field(scope: Scope, name: bytes) -> bytes | None:
    lines = [value for key, value in scope["headers"] if key == name]
    return b", ".join(lines).strip() if lines else None


def _opaque(tag: bytes) -> bytes:
    return tag.removeprefix(b"W/")

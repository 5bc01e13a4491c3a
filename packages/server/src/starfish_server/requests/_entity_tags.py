"""``ETag`` and ``If-None-Match`` (RFC 9110, section 13.1.2)."""

from __future__ import annotations

import re

from starlette.types import Scope

from starfish_server.requests._request_body import header

__all__ = ("etag_of", "is_not_modified")

_ENTITY_TAG = re.compile(rb'(?:W/)?("[^"]*")')


def etag_of(hash_: str) -> bytes:
    """The tag of a document with this hash."""
    return b'"%b"' % hash_.encode()


def is_not_modified(scope: Scope, etag: bytes) -> bool:
    """Whether the client holds this version already."""
    wanted = header(scope, b"if-none-match")
    if wanted is None:
        return False
    return wanted.strip() == b"*" or etag in _ENTITY_TAG.findall(wanted)

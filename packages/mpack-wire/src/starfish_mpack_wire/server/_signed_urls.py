"""URLs of this server that work for somebody without credentials, for some time.

The signature covers method, path, expiry and size, so that none of them can be traded for another.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote, urlencode

from starlette.datastructures import QueryParams

__all__ = ("UrlSigner",)


class UrlSigner:
    """Signs with one key; every server that shares it accepts the URLs.

    Examples:
        >>> signer = UrlSigner(b"k" * 32)
        >>> url = signer.sign("GET", "/ada/notes/packs/x", expires_at=2000)
        >>> query = QueryParams(url.partition("?")[2])
        >>> signer.accepts("GET", "/ada/notes/packs/x", query, now_ms=1999)
        True
        >>> signer.accepts("GET", "/ada/notes/packs/x", query, now_ms=2000)
        False
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, method: str, path: str, *, expires_at: int, size_bytes: int = -1) -> str:
        """The path with a query that makes it work until then; a size of -1 says nothing of one."""
        query: dict[str, str | int] = {"expires": expires_at}
        if size_bytes >= 0:
            query["size"] = size_bytes
        query["signature"] = self._signature(method, path, expires_at, size_bytes)
        return f"{quote(path)}?{urlencode(query)}"

    def accepts(self, method: str, path: str, query: QueryParams, *, now_ms: int) -> bool:
        """Whether a query carries this server's signature for the path, and the time is not over."""
        try:
            expires_at = int(query.get("expires", "")[:20])
            size_bytes = int(query.get("size", "-1")[:20])
        except ValueError:
            return False
        given = query.get("signature", "").encode("ascii", "replace")
        right = self._signature(method, path, expires_at, size_bytes).encode()
        return hmac.compare_digest(given, right) and now_ms < expires_at

    def _signature(self, method: str, path: str, expires_at: int, size_bytes: int) -> str:
        text = f"{method}\n{path}\n{expires_at}\n{size_bytes}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

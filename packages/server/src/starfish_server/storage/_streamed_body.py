"""Bodies that come in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

from starfish_server.storage.errors import ValueTooLargeError
from starfish_server.storage.values import StoreLimits, Value

__all__ = ("collect",)


async def collect(
    key: str, chunks: AsyncIterator[bytes], value: Value, limits: StoreLimits
) -> Value:
    """Join the pieces, for a store that holds whole values in memory anyway.

    Raises:
        ValueTooLargeError: there are more bytes than the store holds.
    """
    parts: list[bytes] = []
    digest = hashlib.sha256()
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limits.value_bytes:
            raise ValueTooLargeError(key, size, limits.value_bytes)
        digest.update(chunk)
        parts.append(bytes(chunk))
    return replace(value, body=b"".join(parts), hash=value.hash or digest.hexdigest())

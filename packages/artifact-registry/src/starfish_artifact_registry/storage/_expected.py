"""A stream that ends well only if its bytes are those that the caller expects."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Protocol

from blake3 import blake3

from starfish_artifact_registry.errors import DigestMismatchError, InvalidValueError

__all__ = ("EXPECTED_ALGORITHMS", "check_expected", "expecting")

EXPECTED_ALGORITHMS: Final = ("blake3", "sha256", "sha512", "sha1", "md5", "sha384", "sha224")
"""Hash functions whose digests a caller may expect."""


class _Hasher(Protocol):
    def update(self, data: Any, /) -> object: ...
    def hexdigest(self) -> str: ...


def check_expected(expected: Mapping[str, str]) -> dict[str, str]:
    """Return the digests in lowercase hex, without the name of the algorithm in front.

    Args:
        expected: digest by algorithm, one of `EXPECTED_ALGORITHMS`; hex, ``sha256:<hex>`` as well.

    Raises:
        InvalidValueError: an algorithm is not known, or a digest is not its hex digits.

    Examples:
        >>> check_expected({"md5": "D41D8CD98F00B204E9800998ECF8427E"})
        {'md5': 'd41d8cd98f00b204e9800998ecf8427e'}
    """
    digests: dict[str, str] = {}
    for algorithm, digest in expected.items():
        if algorithm not in EXPECTED_ALGORITHMS:
            known = " or ".join(EXPECTED_ALGORITHMS)
            raise InvalidValueError("expected", algorithm, f"a digest by {known}")
        hex_digits = digest.removeprefix(f"{algorithm}:").lower()
        size = len(_hasher(algorithm).hexdigest())
        if len(hex_digits) != size or not set(hex_digits) <= set("0123456789abcdef"):
            raise InvalidValueError(f"expected {algorithm}", digest, f"{size} hex digits")
        digests[algorithm] = hex_digits
    return digests


async def expecting(
    stream: AsyncIterator[bytes], digests: Mapping[str, str], size: int | None = None
) -> AsyncIterator[bytes]:
    """The same bytes; the end of the stream is the error if they are others than expected.

    Args:
        stream: the bytes.
        digests: as `check_expected` gives them.
        size: how many bytes there must be.

    Raises:
        DigestMismatchError: they are others.
    """
    hashers = {algorithm: _hasher(algorithm) for algorithm in digests}
    seen = 0
    async for chunk in stream:
        seen += len(chunk)
        if size is not None and seen > size:
            break
        for hasher in hashers.values():
            hasher.update(chunk)
        yield chunk
    if size is not None and seen != size:
        raise DigestMismatchError(
            "size", str(size), str(seen) if seen < size else f"{seen} or more"
        )
    for algorithm, hasher in hashers.items():
        if hasher.hexdigest() != digests[algorithm]:
            raise DigestMismatchError(algorithm, digests[algorithm], hasher.hexdigest())


def _hasher(algorithm: str) -> _Hasher:
    if algorithm == "blake3":
        return blake3()
    return hashlib.new(algorithm, usedforsecurity=False)

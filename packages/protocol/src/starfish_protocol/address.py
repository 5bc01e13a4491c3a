"""Content addresses: the name of some bytes, computed from the bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, Self, cast, get_args

from blake3 import blake3

from starfish_protocol._errors import AddressError, StarfishError

__all__ = ("Algorithm", "ContentAddress", "DigestMismatchError", "MultiHasher")

Algorithm = Literal["blake3", "sha256"]
"""The hash functions of content addresses; both give 32 bytes."""

_ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
_ADDRESS = re.compile(rf"({'|'.join(_ALGORITHMS)}):([0-9a-f]{{64}})")
_FORM = f"<algorithm>:<64 lowercase hex digits> with algorithm {' or '.join(_ALGORITHMS)}"

_Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, order=True)
class ContentAddress:
    """The name of some bytes; ``str`` gives ``<algorithm>:<64 lowercase hex digits>``.

    Addresses sort as their texts do.

    Raises:
        AddressError: the algorithm is unknown or the digest is not 32 bytes.

    Examples:
        >>> address = ContentAddress.of(b"", "sha256")
        >>> str(address)
        'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
        >>> ContentAddress.parse(str(address)) == address
        True
        >>> address.verify(b"")
    """

    algorithm: Algorithm
    """The hash function."""
    digest: bytes
    """Its 32 bytes."""

    def __post_init__(self) -> None:
        _known(self.algorithm)
        if type(self.digest) is not bytes or len(self.digest) != 32:
            raise AddressError(f"a digest of {self.algorithm} is 32 bytes, not {self.digest!r:.80}")

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of an address; nothing around it, no capitals.

        Raises:
            AddressError: it is anything else.
        """
        match = _ADDRESS.fullmatch(text) if type(text) is str else None
        if match is None:
            raise AddressError(f"{text!r:.80} is not an address; it must be {_FORM}")
        return cls(cast("Algorithm", match[1]), bytes.fromhex(match[2]))

    @classmethod
    def of(cls, data: _Bytes, algorithm: Algorithm = "blake3") -> Self:
        """Compute the address of some bytes.

        Raises:
            AddressError: the algorithm is unknown.
        """
        hasher = _new_hasher(algorithm)
        hasher.update(_contiguous(data))
        return cls(algorithm, hasher.digest())

    def verify(self, data: _Bytes) -> None:
        """Return if these are the bytes of this address.

        Raises:
            DigestMismatchError: they are not.
        """
        actual = type(self).of(data, self.algorithm)
        if actual != self:
            raise DigestMismatchError(self, actual)


class DigestMismatchError(StarfishError):
    """Bytes do not have the address that was promised for them."""

    def __init__(self, expected: ContentAddress, actual: ContentAddress) -> None:
        super().__init__(f"content is {actual}, expected {expected}")
        self.expected = expected
        """The address that was promised."""
        self.actual = actual
        """The address that the bytes have."""


class MultiHasher:
    """Addresses of the same bytes under several algorithms, computed while the bytes pass by.

    Raises:
        AddressError: an algorithm is unknown, or none was named.

    Examples:
        >>> hasher = MultiHasher(("blake3", "sha256"))
        >>> hasher.update(b"he")
        >>> hasher.update(b"llo")
        >>> hasher.addresses()["blake3"] == ContentAddress.of(b"hello")
        True
    """

    def __init__(self, algorithms: Iterable[Algorithm] = _ALGORITHMS) -> None:
        self._hashers: dict[Algorithm, _Hasher] = {
            algorithm: _new_hasher(algorithm) for algorithm in algorithms
        }
        if not self._hashers:
            raise AddressError(f"no algorithm named; it must be one of {', '.join(_ALGORITHMS)}")

    def update(self, chunk: _Bytes) -> None:
        """Add bytes at the end; other threads run while a chunk of 2 KiB or more is hashed."""
        contiguous = _contiguous(chunk)
        for hasher in self._hashers.values():
            hasher.update(contiguous)

    def addresses(self) -> dict[Algorithm, ContentAddress]:
        """Give the addresses of all bytes so far; more may follow."""
        return {
            algorithm: ContentAddress(algorithm, hasher.digest())
            for algorithm, hasher in self._hashers.items()
        }


class _Hasher(Protocol):
    def update(self, data: _Bytes, /) -> object: ...
    def digest(self) -> bytes: ...


def _contiguous(data: _Bytes) -> _Bytes:
    if type(data) is memoryview and not data.contiguous:  # a slice with a step: hash its content
        return data.tobytes()
    return data


def _known(algorithm: Algorithm) -> None:
    if algorithm not in _ALGORITHMS:
        raise AddressError(
            f"{algorithm!r:.80} is not an algorithm of an address; it must be one of {', '.join(_ALGORITHMS)}"
        )


def _new_hasher(algorithm: Algorithm) -> _Hasher:
    _known(algorithm)
    # Never blake3's own threads: they do not survive a fork, and the child hangs in its first hash.
    return hashlib.sha256() if algorithm == "sha256" else blake3()

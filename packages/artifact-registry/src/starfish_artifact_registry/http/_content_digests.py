"""The digests that a sender names: ``Content-Digest``, ``Repr-Digest`` (RFC 9530), ``?digest=``."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request

from starfish_http.errors import RequestRefusedError

__all__ = ("expected_digests",)

_MEMBER: Final = re.compile(r"[ \t]*([a-z0-9-]+)=:([A-Za-z0-9+/=]*):(?:;[^,]*)?[ \t]*")
_ALGORITHMS: Final = {
    "sha-256": "sha256",
    "sha-512": "sha512",
    "sha": "sha1",
    "md5": "md5",
    "blake3": "blake3",
}


def expected_digests(request: Request, parameter: str | None) -> dict[str, str]:
    """The digests in hex, by algorithm, that the bytes of a request must have.

    Args:
        request: with its headers; digests by algorithms that are not known are not looked at.
        parameter: ``sha256:<hex>`` or ``blake3:<hex>``.

    Raises:
        RequestRefusedError: 400, a header or the parameter is malformed, or they contradict.
    """
    found: dict[str, str] = {}
    for name in ("content-digest", "repr-digest"):
        for line in request.headers.getlist(name):
            _merge(found, _digests(name, line))
    if parameter is not None:
        algorithm, colon, digits = parameter.partition(":")
        if not colon or algorithm not in _ALGORITHMS.values():
            raise _malformed("digest", parameter, "sha256:<hex> or blake3:<hex>")
        _merge(found, {algorithm: digits.lower()})
    return found


def _digests(name: str, line: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for member in line.split(","):
        match = _MEMBER.fullmatch(member)
        if match is None:
            raise _malformed(name, line, "a list such as sha-256=:<base64>:")
        algorithm = _ALGORITHMS.get(match[1])
        if algorithm is None:
            continue
        try:
            found[algorithm] = base64.b64decode(match[2], validate=True).hex()
        except binascii.Error:
            raise _malformed(name, line, "a list such as sha-256=:<base64>:") from None
    return found


def _merge(found: dict[str, str], more: Mapping[str, str]) -> None:
    for algorithm, digest in more.items():
        if found.setdefault(algorithm, digest) != digest:
            raise RequestRefusedError(
                400, "digest_mismatch", f"the request names two digests by {algorithm}"
            )


def _malformed(name: str, value: str, wanted: str) -> RequestRefusedError:
    return RequestRefusedError(
        400, "invalid_request", f"{name} is {value!r:.200}; it must be {wanted}"
    )

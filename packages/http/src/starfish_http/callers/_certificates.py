"""Certificates as they come in a header: read, verified once, remembered."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starfish_protocol.cap import is_root_device_cap, verify_cap_cert
from starfish_protocol.cap_sharing import assert_shareable_cap
from starfish_protocol.plugins import CapCertValidator

__all__ = (
    "CLOCK_SKEW_S",
    "Certificate",
    "CertificateRefusedError",
    "VerifiedCertificates",
    "is_cap_header",
)

SCHEME = "Cap "
CLOCK_SKEW_S = 300
"""Seconds that are granted at both ends of a certificate's window."""
_MOST_REMEMBERED = 10_000


def is_cap_header(value: str) -> bool:
    """Whether a header's value is of this scheme; case counts."""
    return value.startswith(SCHEME)


class CertificateRefusedError(ValueError):
    """A certificate is not taken; its text is the reason, for the log."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The members of a certificate that a host looks at, whose signature is good."""

    kind: str
    issuer: str
    issuer_id: str
    subject: str
    """Key of the subject; empty for an audience certificate."""
    subject_id: str
    nonce: str
    ops: frozenset[str]
    collections: tuple[str, ...]
    paths: tuple[str, ...]
    audience: frozenset[str] | None
    not_before: int
    """First second of its validity."""
    expires: int
    """Last second of its validity."""
    is_root: bool

    @classmethod
    def of(cls, cert: Mapping[str, Any]) -> Certificate:
        """The members of a certificate that `verify_cap_cert` has passed."""
        scope = cert["scope"]
        audience = cert.get("aud")
        return cls(
            kind=cert["kind"],
            issuer=cert["iss"],
            issuer_id=cert["issUserId"],
            subject=cert.get("sub", ""),
            subject_id=cert.get("subUserId", ""),
            nonce=cert["nonce"],
            ops=frozenset(scope["ops"]),
            collections=tuple(dict.fromkeys(scope["collections"])),
            paths=tuple(scope.get("paths", ())),
            audience=None if audience is None else frozenset(audience),
            not_before=int(cert["nbf"]),
            expires=int(cert["exp"]),
            is_root=is_root_device_cap(cert),
        )


def _any_device(_cert: Any) -> None:
    """The shape of a device certificate has no further rules."""


SHAPE_RULES: Mapping[str, Sequence[CapCertValidator]] = {
    "device": (_any_device,),
    "member": (assert_shareable_cap,),
    "audience": (assert_shareable_cap,),
}
"""By kind, the rules beyond the shape; a kind without an entry is refused."""


class VerifiedCertificates:
    """Reads certificates; the signature of each is verified once.

    Args:
        validators: by kind, the rules beyond the shape.
        max_header: longest value of the header, in characters.
        max_lifetime_s: longest validity, in seconds; ``None`` for no bound.
    """

    def __init__(
        self,
        validators: Mapping[str, Sequence[CapCertValidator]] | None,
        *,
        max_header: int,
        max_lifetime_s: int | None,
    ) -> None:
        self._validators = SHAPE_RULES if validators is None else validators
        self._max_header = max_header
        self._max_lifetime_s = max_lifetime_s
        self._good: OrderedDict[bytes, Certificate] = OrderedDict()

    def read(self, header: str, now_s: int) -> Certificate:
        """The certificate in a header's value, within its window.

        Raises:
            CertificateRefusedError: it cannot be read, or is not good.
        """
        if len(header) > self._max_header:
            raise CertificateRefusedError("the certificate is too large")
        digest = hashlib.sha256(header.encode("utf-8", "surrogatepass")).digest()
        found = self._good.get(digest)
        if found is None:
            found = self._verified(header, now_s)
            self._good[digest] = found
            if len(self._good) > _MOST_REMEMBERED:
                self._good.popitem(last=False)
        elif not found.not_before - CLOCK_SKEW_S <= now_s <= found.expires + CLOCK_SKEW_S:
            raise CertificateRefusedError("the certificate is outside its window")
        return found

    def _verified(self, header: str, now_s: int) -> Certificate:
        cert = _parsed(header[len(SCHEME) :])
        verdict = verify_cap_cert(cert, now=now_s, clock_skew_sec=CLOCK_SKEW_S)
        if not verdict["ok"]:
            raise CertificateRefusedError(f"the certificate is refused: {verdict.get('reason')}")
        found = Certificate.of(cert)
        longest = self._max_lifetime_s
        if longest is not None and found.expires - found.not_before > longest:
            raise CertificateRefusedError("the certificate is valid for too long")
        validators = self._validators.get(found.kind)
        if not validators:
            raise CertificateRefusedError(f"certificates of kind {found.kind} are not taken here")
        for validate in validators:
            try:
                validate(cert)
            except Exception as error:
                raise CertificateRefusedError(
                    "the certificate breaks a rule of its kind"
                ) from error
        return found


def _parsed(text: str) -> dict[str, Any]:
    try:
        cert = json.loads(base64.b64decode(text, validate=True), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CertificateRefusedError("the certificate is not base64 of JSON") from error
    if not isinstance(cert, dict):
        raise CertificateRefusedError("the certificate is not an object")
    return cert  # pyright: ignore[reportUnknownVariableType]  # its members are looked at next


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")

"""Capability certificates: one signed object that says what the holder of a key may do.

There is no chain and no trust root: a certificate proves that its subject acts for the user of its
issuer's key, or holds the rights that the issuer gave it, and nothing else. Unknown members are
kept and are part of the signed bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from starfish_protocol._cap_shape import shape_fault
from starfish_protocol._json_types import is_object
from starfish_protocol._path_glob import glob_matches
from starfish_protocol._signed_text import sign_text, signed_text, verify_text
from starfish_protocol.suites import ed25519

__all__ = (
    "CapCert",
    "CapCertVerifyResult",
    "CapCertWellFormedCode",
    "CapKind",
    "CapScope",
    "UnsignedCapCert",
    "assert_cap_cert_well_formed",
    "cap_cert_canonical_signing_input",
    "is_root_device_cap",
    "path_glob_match",
    "recipient_kem",
    "sign_cap_cert",
    "user_id_from_pub_hex",
    "verify_cap_cert",
    "verify_cap_cert_signature",
)

CapKind = Literal["device", "member", "audience"]
"""A device of the issuer's own, another user, or everybody who holds the link."""

CapCertWellFormedCode = Literal[
    "malformed-shape",
    "iss-userid-mismatch",
    "sub-userid-mismatch",
    "audience-has-sub",
    "non-audience-has-aud",
    "audience-empty-aud",
    "audience-aud-too-large",
    "audience-aud-bad-entry",
    "audience-aud-dup",
    "member-missing-sub-userid",
    "member-self",
    "member-wildcard-collections",
    "member-multi-collection",
    "member-private-path",
    "member-members-not-denied",
    "member-keyring-not-denied",
]
"""Why a certificate is refused for its shape."""

_DOMAIN = "starfish-capcert-v1\n"


class CapScope(TypedDict):
    """The rights of a certificate."""

    ops: list[str]
    """Some of ``read``, ``write``, ``list``."""
    collections: list[str]
    """Names of collections; ``*`` is literal."""
    paths: NotRequired[list[str]]
    """Globs over document keys; ``!`` denies a key and everything below it."""


class UnsignedCapCert(TypedDict):
    """A certificate before it is signed."""

    v: int
    """The version, 1."""
    kind: CapKind
    iss: str
    """Issuer's Ed25519 public key, 64 lowercase hex digits."""
    issUserId: str
    """`user_id_from_pub_hex` of ``iss``."""
    sub: NotRequired[str]
    """Subject's Ed25519 public key; never in an audience certificate."""
    subKem: NotRequired[str]
    """Subject's X25519 public key; never in an audience certificate."""
    subUserId: NotRequired[str]
    """`user_id_from_pub_hex` of ``sub``."""
    scope: CapScope
    aud: NotRequired[list[str]]
    """Keys that may redeem an audience certificate; anybody when absent."""
    nbf: int
    """First second of the validity, since the epoch."""
    exp: int
    """Last second of the validity, since the epoch."""
    nonce: str
    """base64 of 16 bytes; names this certificate for revocation."""


class CapCert(UnsignedCapCert):
    """A signed certificate."""

    sig: str
    """Ed25519 signature of ``iss``, base64 with padding."""


class CapCertVerifyResult(TypedDict):
    """The answer of `verify_cap_cert`."""

    ok: bool
    reason: NotRequired[str]
    """Why not: a `CapCertWellFormedCode`, ``inverted-window``, ``not-yet-valid``, ``expired`` or ``bad-signature``."""


def assert_cap_cert_well_formed(cert: Mapping[str, Any]) -> None:
    """Return if a certificate has the shape of its kind; neither clock nor signature is judged.

    Raises:
        ValueError: its text is a `CapCertWellFormedCode`.

    Examples:
        >>> assert_cap_cert_well_formed({"v": 2})
        Traceback (most recent call last):
        ...
        ValueError: malformed-shape
    """
    code = _shape_code(cert)
    if code is not None:
        raise ValueError(code)


def cap_cert_canonical_signing_input(cert: Mapping[str, Any]) -> str:
    r"""Give the text that the issuer signs, as UTF-8: all members but ``sig``.

    Raises:
        TypeError: a member has no canonical JSON.
        ValueError: it is nested too deep.

    Examples:
        >>> cap_cert_canonical_signing_input({"v": 1, "sig": "…"})
        'starfish-capcert-v1\n{"v":1}'
    """
    return signed_text(_DOMAIN, _unsigned(cert))


def sign_cap_cert(cert: Mapping[str, Any], iss_priv_hex: str) -> dict[str, Any]:
    """Give a copy of a certificate with the issuer's signature; the shape is not judged.

    Args:
        cert: the certificate; a ``sig`` that it has is dropped.
        iss_priv_hex: the issuer's private key, 64 hex digits.

    Raises:
        TypeError: a member has no canonical JSON.
        ValueError: it is nested too deep, or the key is malformed.

    Examples:
        >>> key = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
        >>> public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        >>> verify_cap_cert_signature(sign_cap_cert({"iss": public}, key))
        True
    """
    unsigned = _unsigned(cert)
    return {**unsigned, "sig": sign_text(_DOMAIN, unsigned, iss_priv_hex)}


def verify_cap_cert_signature(cert: Mapping[str, Any]) -> bool:
    """Tell whether the issuer signed this certificate; never an exception."""
    if not is_object(cert) or not isinstance(cert.get("iss"), str):
        return False
    return verify_text(_DOMAIN, _unsigned(cert), cert["iss"], cert.get("sig"))


def verify_cap_cert(
    cert: Mapping[str, Any], *, now: int, clock_skew_sec: int = 300
) -> CapCertVerifyResult:
    """Judge a certificate: its shape, its window, its signature; the first failure is told.

    Never an exception, whatever ``cert`` is. Revocation is another question.

    Args:
        cert: the certificate, as parsed from JSON.
        now: seconds since the epoch.
        clock_skew_sec: seconds that are granted at both ends of the window.

    Examples:
        >>> verify_cap_cert({"kind": "device"}, now=0)
        {'ok': False, 'reason': 'malformed-shape'}
    """
    reason = _shape_code(cert)
    if reason is None:
        first, last = int(cert["nbf"]), int(cert["exp"])
        if last <= first:
            reason = "inverted-window"
        elif now < first - clock_skew_sec:
            reason = "not-yet-valid"
        elif now > last + clock_skew_sec:
            reason = "expired"
        elif not verify_cap_cert_signature(cert):
            reason = "bad-signature"
    return {"ok": True} if reason is None else {"ok": False, "reason": reason}


def path_glob_match(glob: str, target: str) -> bool:
    """Tell whether a glob matches a whole document key, in time at most glob times key.

    ``**`` is any run of characters, ``*`` any run without ``/``; all else is literal, case counts.

    Examples:
        >>> path_glob_match("notes/*", "notes/a"), path_glob_match("notes/*", "notes/a/b")
        (True, False)
        >>> path_glob_match("**/*secret", "a/b/topsecret")
        True
    """
    return glob_matches(glob, target)


def is_root_device_cap(cert: Mapping[str, Any]) -> bool:
    """Tell whether this is a device that its own user issued: ``iss`` is ``sub``."""
    return cert.get("kind") == "device" and cert.get("iss") == cert.get("sub")


def recipient_kem(cert: Mapping[str, Any]) -> str:
    """Give the key that secrets for the subject are encrypted to: ``subKem``, else ``sub``.

    Raises:
        ValueError: the certificate names no subject.
    """
    for member in ("subKem", "sub"):
        if isinstance(key := cert.get(member), str) and key:
            return key
    raise ValueError("the certificate has neither subKem nor sub: it names no recipient")


def user_id_from_pub_hex(pub_hex: str) -> str:
    """Give the user of an Ed25519 key: the first 32 hex digits of the SHA-256 of its bytes.

    Raises:
        ValueError: the key is not 64 hex digits.

    Examples:
        >>> user_id_from_pub_hex("188f040b3146b71a9358170f7d3a5024ecbc79ca234939669c4a581b518b407c")
        'bb08acc3666ce7f4aa6df82892dd2a71'
    """
    return _user_id(ed25519.key_bytes(pub_hex, "public key"))


_user_id_from_pub_hex = user_id_from_pub_hex
"""The name by which the public packages' siblings know it."""


def _user_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:32]


def _unsigned(cert: Mapping[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in cert.items() if member != "sig"}


def _shape_code(cert: Any) -> str | None:
    code = shape_fault(cert)
    if code is not None:
        return code
    if cert["issUserId"] != _user_id(bytes.fromhex(cert["iss"])):
        return "iss-userid-mismatch"
    if "subUserId" in cert and cert["subUserId"] != user_id_from_pub_hex(cert["sub"]):
        return "sub-userid-mismatch"
    return None

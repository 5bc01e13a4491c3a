"""Revocation lists: an issuer takes back certificates, and everything of a subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, TypeGuard

from starfish_protocol._json_types import is_list, is_object, is_whole_number
from starfish_protocol._signed_text import sign_text, signed_text, verify_text
from starfish_protocol.cap import user_id_from_pub_hex
from starfish_protocol.suites.ed25519 import is_usable_public_key

__all__ = (
    "MAX_REVOKED_ENTRIES",
    "RevocationFault",
    "RevocationList",
    "RevokedCap",
    "RevokedSubject",
    "build_revocation_list",
    "revocation_list_canonical_signing_input",
    "revocation_list_fault",
)

MAX_REVOKED_ENTRIES = 10_000
"""Entries that one list may hold."""

RevocationFault = Literal["malformed-shape", "bad-signature"]
"""Why a list is refused by itself, whatever came before it."""

_DOMAIN = "starfish-revlist-v1\n"


class RevokedCap(TypedDict):
    """One certificate that is taken back."""

    sub: str
    """Its subject; empty for an audience certificate."""
    nonce: str
    """Its nonce."""
    exp: int
    """Its last second, since the epoch."""


class RevokedSubject(TypedDict):
    """A subject whose device and member certificates of this issuer are all taken back."""

    sub: str
    """The subject's key; the empty text takes nothing back."""
    exp: int
    """Last second of the longest of them, since the epoch."""


class RevocationList(TypedDict):
    """A signed list; a list of a higher generation replaces it."""

    v: int
    iss: str
    issUserId: str
    generation: int
    revoked: list[RevokedCap]
    revokedSubjects: NotRequired[list[RevokedSubject]]
    sig: str


def build_revocation_list(
    iss_ed_pub_hex: str,
    iss_ed_priv_hex: str,
    generation: int,
    revoked: Sequence[Mapping[str, Any]],
    revoked_subjects: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Make and sign a list.

    Args:
        iss_ed_pub_hex: the issuer's public key, 64 lowercase hex digits.
        iss_ed_priv_hex: the issuer's private key, 64 hex digits.
        generation: above that of the issuer's list before.
        revoked: the certificates, each ``{"sub", "nonce", "exp"}``.
        revoked_subjects: the subjects, each ``{"sub", "exp"}``; left out of the list when ``None``.

    Raises:
        TypeError: an entry has no canonical JSON.
        ValueError: a key is malformed.

    Examples:
        >>> key = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
        >>> public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        >>> revocation_list_fault(build_revocation_list(public, key, 1, [])) is None
        True
    """
    unsigned: dict[str, Any] = {
        "v": 1,
        "iss": iss_ed_pub_hex,
        "issUserId": user_id_from_pub_hex(iss_ed_pub_hex),
        "generation": generation,
        "revoked": [dict(entry) for entry in revoked],
    }
    if revoked_subjects is not None:
        unsigned["revokedSubjects"] = [dict(entry) for entry in revoked_subjects]
    return {**unsigned, "sig": sign_text(_DOMAIN, unsigned, iss_ed_priv_hex)}


def revocation_list_canonical_signing_input(revocation_list: Mapping[str, Any]) -> str:
    """Give the text that the issuer signs, as UTF-8: all members but ``sig``.

    Raises:
        TypeError: a member has no canonical JSON.
        ValueError: it is nested too deep.
    """
    return signed_text(_DOMAIN, _unsigned(revocation_list))


def revocation_list_fault(revocation_list: object) -> RevocationFault | None:
    """Judge a list by itself: its shape and its signature; ``None`` when both are right.

    Never an exception, whatever the list is. A store compares the generation with its own.
    """
    if not _is_well_formed(revocation_list):
        return "malformed-shape"
    signed, signature = _unsigned(revocation_list), revocation_list.get("sig")
    is_signed = verify_text(_DOMAIN, signed, revocation_list["iss"], signature)
    return None if is_signed else "bad-signature"


def _unsigned(revocation_list: Mapping[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in revocation_list.items() if member != "sig"}


def _is_well_formed(given: object) -> TypeGuard[Mapping[str, Any]]:
    return (
        is_object(given)
        and type(given.get("v")) is int
        and given["v"] == 1
        and type(given.get("generation")) is int
        and 0 <= given["generation"] < 2**53
        and is_usable_public_key(issuer := given.get("iss"))
        and issuer == issuer.lower()
        and given.get("issUserId") == user_id_from_pub_hex(issuer)
        and _are_entries(given.get("revoked"), ("sub", "nonce"))
        and _are_entries(given.get("revokedSubjects", []), ("sub",))
    )


def _are_entries(entries: object, texts: tuple[str, ...]) -> bool:
    return (
        is_list(entries)
        and len(entries) <= MAX_REVOKED_ENTRIES
        and all(
            is_object(entry)
            and all(type(entry.get(name)) is str for name in texts)
            and is_whole_number(entry.get("exp"))
            for entry in entries
        )
    )

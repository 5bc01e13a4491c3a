"""The extra shape rules of certificates that share: member and audience certificates.

They are checked by the client that makes one and again by the server that takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starfish_protocol._json_types import is_list_of_texts
from starfish_protocol._path_glob import glob_matches

__all__ = ("assert_shareable_cap",)


def assert_shareable_cap(cert: Mapping[str, Any]) -> None:
    """Return if a member or audience certificate grants nothing that must stay with its issuer.

    Exactly one collection, no path of the issuer's own, and no list of members or (with ``write``)
    keyring of that collection: these would let the subject add others. Only ``<collection>/_members``
    and ``<collection>/_keyring`` are looked at; the roles of the keyring's own collection are the
    guard for deeper ones. A device certificate passes.

    Args:
        cert: a certificate that `starfish_protocol.cap.assert_cap_cert_well_formed` has passed.

    Raises:
        ValueError: its text is the code, ``member-…`` or ``audience-…``.

    Examples:
        >>> scope = {"ops": ["read"], "collections": ["*"], "paths": ["notes/a"]}
        >>> assert_shareable_cap({"kind": "audience", "issUserId": "", "scope": scope})
        Traceback (most recent call last):
        ...
        ValueError: audience-wildcard-collections
    """
    kind = cert.get("kind")
    if kind not in ("member", "audience"):
        return
    fault = (_subject_fault(cert) if kind == "member" else None) or _scope_fault(
        cert["scope"], cert["issUserId"]
    )
    if fault is not None:
        raise ValueError(f"{kind}-{fault}")


def _subject_fault(cert: Mapping[str, Any]) -> str | None:
    if not isinstance(cert.get("subUserId"), str):
        return "missing-sub-userid"
    return "self" if cert["subUserId"] == cert.get("issUserId") else None


def _scope_fault(scope: Mapping[str, Any], issuer: str) -> str | None:
    collections: list[str] = scope["collections"]
    if "*" in collections:
        return "wildcard-collections"
    if len(collections) != 1:
        return "multi-collection"
    paths = given if is_list_of_texts(given := scope.get("paths")) else []
    allowed = [path.replace("{identity}", issuer) for path in paths if not path.startswith("!")]
    denied = [path[1:] for path in paths if path.startswith("!")]
    own = f"users/{issuer}"
    if any(path == own or path.startswith(f"{own}/") for path in allowed):
        return "private-path"

    def reaches(key: str) -> bool:
        is_allowed = not allowed or any(glob_matches(path, key) for path in allowed)
        return is_allowed and not any(glob_matches(path, key) for path in denied)

    if reaches(f"{collections[0]}/_members"):
        return "members-not-denied"
    if "write" in scope["ops"] and reaches(f"{collections[0]}/_keyring"):
        return "keyring-not-denied"
    return None

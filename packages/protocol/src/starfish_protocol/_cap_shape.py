"""The shape of a capability certificate: types, bounds, and the members that each kind has."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from starfish_protocol._json_types import is_list_of_texts, is_object, is_whole_number
from starfish_protocol.suites.ed25519 import is_usable_public_key

__all__ = ("is_nonce", "shape_fault")

_LOWER_KEY = re.compile("[0-9a-f]{64}")
_LOWER_HEX = re.compile("(?:[0-9a-f]{2}){1,64}")
_OPERATIONS = frozenset({"read", "write", "list"})
_MOST_PATHS, _LONGEST_PATH, _MOST_COLLECTIONS, _MOST_AUDIENCE, _DEEPEST = 64, 512, 64, 64, 8


def shape_fault(cert: object) -> str | None:
    """Give the code of the first fault, ``None`` for none; user ids are not compared here."""
    if not (is_object(cert) and _has_common_members(cert) and _is_shallow(cert)):
        return "malformed-shape"
    if not _is_scope(cert.get("scope")):
        return "malformed-shape"
    if cert["kind"] == "audience":
        return _audience_fault(cert)
    if "aud" in cert:
        return "non-audience-has-aud"
    has_subject = is_usable_public_key(cert.get("sub")) and _is_lower_key(cert.get("sub"))
    return None if has_subject and _is_lower_key(cert.get("subKem")) else "malformed-shape"


def is_nonce(value: object) -> bool:
    """Tell whether this is the one base64 form of 16 bytes."""
    if type(value) is not str:
        return False
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        return False
    return len(raw) == 16 and base64.b64encode(raw).decode() == value


def _has_common_members(members: Mapping[str, Any]) -> bool:
    return (
        type(members.get("v")) is int
        and members["v"] == 1
        and members.get("kind") in ("device", "member", "audience")
        and _is_issuer(members.get("iss"))
        and type(members.get("issUserId")) is str
        and is_whole_number(members.get("nbf"))
        and is_whole_number(members.get("exp"))
        and is_nonce(members.get("nonce"))
    )


def _is_scope(scope: object) -> bool:
    if not is_object(scope):
        return False
    ops, collections, paths = scope.get("ops"), scope.get("collections"), scope.get("paths", [])
    return (
        is_list_of_texts(ops)
        and set(ops) <= _OPERATIONS
        and is_list_of_texts(collections)
        and len(collections) <= _MOST_COLLECTIONS
        and is_list_of_texts(paths)
        and len(paths) <= _MOST_PATHS
        and all(len(path) <= _LONGEST_PATH for path in paths)
    )


def _audience_fault(members: Mapping[str, Any]) -> str | None:
    if any(member in members for member in ("sub", "subKem", "subUserId")):
        return "audience-has-sub"
    if "aud" not in members:
        return None
    audience = members["aud"]
    fault = None
    if not is_list_of_texts(audience):
        fault = "bad-entry"
    elif len(audience) > _MOST_AUDIENCE:
        fault = "too-large"
    elif not all(map(_is_lower_key, audience)):
        fault = "bad-entry"
    elif len(set(audience)) < len(audience):
        fault = "dup"
    elif not audience:
        return "audience-empty-aud"
    return fault and f"audience-aud-{fault}"


def _is_issuer(value: object) -> bool:
    # A key of another length has the right shape to the public packages: nothing verifies with it.
    if type(value) is not str or _LOWER_HEX.fullmatch(value) is None:
        return False
    return len(value) != 64 or is_usable_public_key(value)


def _is_lower_key(value: object) -> bool:
    return type(value) is str and _LOWER_KEY.fullmatch(value) is not None


def _is_shallow(members: Mapping[str, Any]) -> bool:
    level: list[Any] = [members]
    for _ in range(_DEEPEST):
        level = [
            member
            for container in level
            for member in (container.values() if is_object(container) else container)
            if isinstance(member, list | tuple | Mapping)
        ]
        if not level:
            return True
    return False

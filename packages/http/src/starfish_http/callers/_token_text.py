"""The text of a token file: this package's JSON, and the lines of earlier registries.

JSON of version 1 is what `starfish_server` 4 wrote; version 2 adds ``namespaces`` and ``scopePaths``,
and is written only where one of them is used, so that an older reader takes what it can. A registry's file
has one line a token: the SHA-256 of the token, a space, the actor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

__all__ = ("DamagedTokensError", "TokenRecord", "free_name", "parse_tokens", "write_tokens")

_HEX_256 = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"([0-9a-f]{64}) ([\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?)")
_ALWAYS = {"name", "identity", "roles", "hash", "created"}
_OF_VERSION = {1: {"expires", "pubkey"}, 2: {"expires", "pubkey", "namespaces", "scopePaths"}}


class DamagedTokensError(Exception):
    """The text is not a token file; the message names the place, never the content."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One token, without its secret."""

    name: str
    """What it is revoked by; unique in its file."""
    identity: str
    """Who presents it."""
    roles: list[str]
    hash: str
    """SHA-256 of the token's text, 64 lowercase hex digits."""
    created: int
    """Milliseconds since the epoch; 0 where the file does not say."""
    expires: int | None = None
    """Milliseconds since the epoch from which it is refused; ``None`` for never."""
    pubkey: str | None = None
    """Ed25519 public key that its presenter signs with, 64 lowercase hex digits."""
    namespaces: list[str] | None = None
    """The namespaces it is good for; ``None`` for every one, and for the part without."""
    scope_paths: list[str] | None = None
    """Globs over the keys it reaches, as in `Caller`; ``None`` for every key."""

    def is_expired(self, now_ms: int) -> bool:
        """Whether the token is refused at this time."""
        return self.expires is not None and self.expires <= now_ms


def parse_tokens(raw: bytes) -> list[TokenRecord]:
    """The records of a file, oldest first.

    Raises:
        DamagedTokensError: a place of it is not as it must be; no record of such a file is good.
    """
    if raw.lstrip()[:1] in {b"{", b"["}:
        return _parse_json(raw)
    return _parse_lines(raw)


def write_tokens(records: Sequence[TokenRecord]) -> bytes:
    """The text of a file with these records."""
    version = 2 if any(each.namespaces or each.scope_paths for each in records) else 1
    content = {"version": version, "tokens": [_written(record, version) for record in records]}
    return json.dumps(content, indent=2).encode() + b"\n"


def _written(record: TokenRecord, version: int) -> dict[str, Any]:
    written: dict[str, Any] = {
        "name": record.name,
        "identity": record.identity,
        "roles": record.roles,
        "hash": record.hash,
        "created": record.created,
        "expires": record.expires,
        "pubkey": record.pubkey,
    }
    if version > 1:
        written |= {"namespaces": record.namespaces, "scopePaths": record.scope_paths}
    return written


def _parse_json(raw: bytes) -> list[TokenRecord]:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        raise DamagedTokensError("its text") from None
    if not isinstance(content, dict) or content.keys() != {"version", "tokens"}:
        raise DamagedTokensError("its members; there must be version and tokens")
    whole = cast("dict[str, Any]", content)
    version, tokens = whole["version"], whole["tokens"]
    if type(version) is not int or version not in _OF_VERSION:
        raise DamagedTokensError("version; it must be 1 or 2")
    if not _is_list(tokens):
        raise DamagedTokensError("tokens; it must be a list")
    return [_record(each, f"tokens.{n}", version) for n, each in enumerate(tokens)]


def _record(raw: Any, place: str, version: int) -> TokenRecord:
    if not isinstance(raw, dict):
        raise DamagedTokensError(f"{place}; it must be an object")
    fields = cast("dict[str, Any]", raw)
    optional = _OF_VERSION[version]
    for name in sorted(_ALWAYS - fields.keys()) or sorted(fields.keys() - _ALWAYS - optional):
        raise DamagedTokensError(f"{place}.{name}")
    checks = {
        "name": isinstance(fields["name"], str),
        "identity": isinstance(fields["identity"], str),
        "roles": _is_texts(fields["roles"]),
        "hash": _is_hex(fields["hash"]),
        "created": type(fields["created"]) is int,
        "expires": fields.get("expires") is None or type(fields["expires"]) is int,
        "pubkey": fields.get("pubkey") is None or _is_hex(fields["pubkey"]),
        "namespaces": fields.get("namespaces") is None or _is_texts(fields["namespaces"]),
        "scopePaths": fields.get("scopePaths") is None or _is_texts(fields["scopePaths"]),
    }
    for name, is_good in checks.items():
        if not is_good:
            raise DamagedTokensError(f"{place}.{name}")
    scope_paths = fields.pop("scopePaths", None)
    return TokenRecord(**fields, scope_paths=scope_paths)


def _parse_lines(raw: bytes) -> list[TokenRecord]:
    records: list[TokenRecord] = []
    names: set[str] = set()
    for number, line in enumerate(raw.decode("ascii", "replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            raise DamagedTokensError(f"line {number}; it must be '<64 hex digits> <actor>'")
        name = free_name(found[2], names)
        names.add(name)
        records.append(TokenRecord(name, found[2], [], found[1], 0))
    return records


def free_name(identity: str, names: set[str]) -> str:
    """A name for a token of this identity that is not taken yet."""
    number, name = 1, identity
    while name in names:
        number += 1
        name = f"{identity}-{number}"
    return name


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_texts(value: Any) -> bool:
    return _is_list(value) and all(isinstance(each, str) for each in value)


def _is_hex(value: Any) -> bool:
    return isinstance(value, str) and _HEX_256.fullmatch(value) is not None

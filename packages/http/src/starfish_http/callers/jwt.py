"""JSON Web Tokens (RFC 7519) of an identity provider, checked against its published keys (RFC 7517).

Rule 1: the algorithm is one of an allow-list of signatures; a shared secret or ``none`` is never one.
Rule 2: issuer, audience, expiry and subject are required. Rule 3: a key that is not known yet is looked for at
most once in `KeyCache.pause_s`, so that forged tokens make no traffic.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import re
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeGuard, cast
from urllib.parse import urlsplit

from starlette.requests import Request
from typing_extensions import override

from starfish_http.callers._bearer import bearer_token
from starfish_http.callers._caller import Authenticator, Caller
from starfish_http.errors import AuthError, HttpError, RequestRefusedError
from starfish_protocol.clock import Clock, SystemClock

try:
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
except ModuleNotFoundError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        "starfish_http.callers.jwt needs the extra jwt: "
        'pip install --find-links dist "starfish-http[jwt]"'
    ) from error

__all__ = (
    "JwtAuthenticator",
    "KeyCache",
    "KeysUnavailableError",
    "keys_from_file",
    "keys_from_url",
)

_LOG = logging.getLogger(__name__)
_MAX_TOKEN_LENGTH = 16 * 1024
_MAX_KEYS_BYTES = 1024 * 1024
_FETCH_TIMEOUT_S = 10.0
_IDENTITY = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,253}[^\s\x00-\x1f\x7f])?")
_SIGNATURES: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip

Keys = Callable[[], Awaitable[Any]]
"""Fetches a key set: the JSON value of a JWKS document."""

_Key = RSAKey | ECKey | OKPKey


class KeysUnavailableError(HttpError):
    """A key set cannot be fetched, or is not one."""


def keys_from_url(url: str) -> Keys:
    """Fetch the keys from an address, within 10 s and 1 MiB.

    Raises:
        ValueError: the address is neither https nor on loopback.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    ):
        raise ValueError(f"{url!r} is refused; keys must come over https, or from loopback")

    def fetch() -> Any:
        with urllib.request.urlopen(url, timeout=_FETCH_TIMEOUT_S) as answer:  # noqa: S310 - the scheme was looked at
            return json.loads(answer.read(_MAX_KEYS_BYTES))

    async def keys() -> Any:
        return await asyncio.to_thread(fetch)

    return keys


def keys_from_file(path: str | Path) -> Keys:
    """Read the keys from a file."""

    async def keys() -> Any:
        return json.loads(await asyncio.to_thread(Path(path).read_bytes))

    return keys


class KeyCache:
    """The keys of an identity provider, fetched when they are needed and when they are old.

    Args:
        fetch: of `keys_from_url` or `keys_from_file`, or any function that gives a JWKS document.
        max_age_s: after which they are fetched again; while that fails, the old ones are kept.
        pause_s: how long after a look another one waits.
    """

    def __init__(self, fetch: Keys, *, max_age_s: float = 3600.0, pause_s: float = 30.0) -> None:
        self._fetch = fetch
        self._max_age_s = max_age_s
        self.pause_s = pause_s
        """How long after a look another one waits."""
        self._keys: list[_Key] = []
        self._fetched_at: float | None = None
        self._looked_at: float | None = None
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None) -> _Key | None:
        """The key of this id; without an id, the only key there is.

        Raises:
            KeysUnavailableError: no key set was ever fetched.
        """
        if self._is_old():
            await self._refresh()
        found = self._known(kid)
        if found is None:
            await self._refresh()
            found = self._known(kid)
        if found is None and self._fetched_at is None:
            raise KeysUnavailableError("the keys of the identity provider cannot be fetched")
        return found

    def _known(self, kid: str | None) -> _Key | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.kid == kid), None)

    def _is_old(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._fetched_at is None or now - self._fetched_at > self._max_age_s

    async def _refresh(self) -> None:
        async with self._fetching:
            now = asyncio.get_running_loop().time()
            if self._looked_at is not None and now - self._looked_at < self.pause_s:
                return
            self._looked_at = now
            try:
                self._keys = _signature_keys(await self._fetch())
            except Exception as error:  # noqa: BLE001 - the old keys go on, whatever the provider answers
                _LOG.error("the keys of the identity provider cannot be fetched: %s", error)
            else:
                self._fetched_at = now


class JwtAuthenticator(Authenticator):
    """Knows callers by the tokens of an identity provider.

    A request without ``Authorization`` is anonymous. A stream ends when its token expires.

    Args:
        keys: the provider's.
        issuer: ``iss`` of every token.
        audience: one of ``aud`` of every token.
        algorithms: those that are taken.
        roles_claim: the claim that lists roles (a list of texts, or words in one text); dots lead into objects.
        identity_claim: the claim that names the caller; ``|``, ``+`` and ``@`` may be in it.
        scope_claim: the claim that lists globs over document keys, as in `Caller`; ``None`` for none.
        leeway_s: by how much clocks may differ.
        clock: what expiry is measured by.

    Raises:
        ValueError: an algorithm is not a signature with a public key.
    """

    def __init__(
        self,
        keys: KeyCache,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str] = ("RS256", "ES256", "EdDSA", "Ed25519"),
        roles_claim: str = "roles",
        identity_claim: str = "sub",
        scope_claim: str | None = None,
        leeway_s: int = 30,
        clock: Clock | None = None,
    ) -> None:
        for algorithm in algorithms:
            if algorithm not in _SIGNATURES:
                raise ValueError(
                    f"algorithm {algorithm!r} is refused; it must be one of {', '.join(_SIGNATURES)}"
                )
        self._keys = keys
        self._algorithms = list(algorithms)
        self._roles_claim = roles_claim
        self._identity_claim = identity_claim
        self._scope_claim = scope_claim
        self._leeway_s = leeway_s
        self._clock = clock or SystemClock()
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: self._clock.now_ms() // 1000,
            leeway=leeway_s,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    @override
    async def __call__(self, request: Request) -> Caller:
        """The caller of a request.

        Raises:
            AuthError: its token is not good.
            RequestRefusedError: 503, the keys were never reached.
        """
        token = bearer_token(request)
        return Caller() if token is None else await self.identify(token)

    async def identify(self, token: str) -> Caller:
        """The caller of a token.

        Raises:
            AuthError: it is not good.
            RequestRefusedError: 503, the keys were never reached.
        """
        if len(token) > _MAX_TOKEN_LENGTH or not token.isascii():
            raise AuthError("the token is not valid")
        claims = await self._verified(token)
        identity = _claim(claims, self._identity_claim)
        if not isinstance(identity, str) or _IDENTITY.fullmatch(identity) is None:
            raise AuthError(f"the claim {self._identity_claim} of the token names nobody")
        scope_paths: list[str] | None = None
        if self._scope_claim is not None:
            scope_paths = _texts(_claim(claims, self._scope_claim)) or ["!**"]
        if not math.isfinite(claims["exp"]):
            raise AuthError("the claim exp of the token is not a time")
        expires_ms = int((claims["exp"] + self._leeway_s) * 1000)

        async def holds() -> bool:
            return self._clock.now_ms() < expires_ms

        return Caller(
            identity,
            _texts(_claim(claims, self._roles_claim)),
            scope_paths=scope_paths,
            expires_ms=expires_ms,
            recheck=holds,
        )

    async def _verified(self, token: str) -> dict[str, Any]:
        kid = _key_id(token)
        try:
            key = await self._keys.find(kid)
        except KeysUnavailableError as error:
            raise RequestRefusedError(
                503, "keys_unavailable", str(error), headers={"retry-after": "5"}
            ) from error
        if key is None:
            raise AuthError("the token is signed with a key that is not known")
        try:
            decoded = jwt.decode(token, key, algorithms=self._algorithms)
            self._claims.validate(decoded.claims)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            _LOG.info("a token is refused: %s", type(error).__name__)
            raise AuthError("the token is not valid") from error
        return dict(decoded.claims)


def _signature_keys(document: Any) -> list[_Key]:
    """The public keys of a JWKS document that sign; secrets and other keys are left out."""
    if not _is_object(document) or not _is_list(document.get("keys")):
        raise KeysUnavailableError("the document is not a key set")
    keys: list[_Key] = []
    for each in document["keys"]:
        if not _is_object(each) or each.get("use", "sig") != "sig":
            continue
        try:
            found = KeySet.import_key_set({"keys": [cast("Any", each)]}).keys[0]
        except (JoseError, ValueError, TypeError, KeyError):
            continue  # one key that is not understood leaves the others good
        if isinstance(found, (RSAKey, ECKey, OKPKey)):
            keys.append(found)
    if not keys:
        raise KeysUnavailableError("the key set has no key that signs")
    return keys


def _key_id(token: str) -> str | None:
    """The key that a token says it is signed with; nothing of it is believed before that key was tried.

    Raises:
        AuthError: it has no header.
    """
    part = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        header = None
    kid = header.get("kid") if _is_object(header) else 0
    if kid is not None and not isinstance(kid, str):
        raise AuthError("the token is not valid")
    return kid


def _claim(claims: dict[str, Any], path: str) -> Any:
    value: Any = claims
    if path in claims:
        return claims[path]
    for step in path.split("."):
        if not _is_object(value):
            return None
        value = value.get(step)
    return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if _is_list(value) else []


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)

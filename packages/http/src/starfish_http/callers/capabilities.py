"""Capability certificates: callers who sign each request with a key and carry their rights with them.

Rule 1: a certificate proves that a key acts for a user or holds what that user gave it, and nothing
else; anybody can make a key. Rights come from roles that name users, or from trusted issuers.
Rule 2: every reason for a 401 stays in the log. Rule 3: the certificate's window, its revocation and
the request's nonce are looked at for each request; the certificate's signature is verified once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, cast

from starlette.requests import Request
from starlette.types import Scope
from typing_extensions import override

from starfish_http.callers._caller import Authenticator, Caller
from starfish_http.callers._certificates import (
    CLOCK_SKEW_S,
    Certificate,
    CertificateRefusedError,
    VerifiedCertificates,
    is_cap_header,
)
from starfish_http.callers._public_hosts import PublicHosts
from starfish_http.callers.nonces import NonceStore
from starfish_http.errors import AuthError, RequestRefusedError
from starfish_protocol.cap import user_id_from_pub_hex
from starfish_protocol.clock import Clock, SystemClock
from starfish_protocol.plugins import CapCertValidator
from starfish_protocol.request_signing import (
    DEFAULT_MAX_SKEW_MS,
    RequestSignature,
    verify_request_signature,
)

__all__ = (
    "SIGNED_BODY",
    "CapabilityAuthenticator",
    "CapabilityCaller",
    "Revocations",
    "SignedBody",
    "check_public_hosts",
    "is_capability_request",
)

_LOG = logging.getLogger(__name__)
_TS = re.compile(r"-?[0-9]{1,20}")
_KEY = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")  # the one base64 form of 16 bytes
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_REASONS = 64
_REASON_EVERY_MS = 60_000
_OPERATIONS: Final[Mapping[str, str]] = {
    "pull": "read", "read": "read", "push": "write", "write": "write", "delete": "write", "list": "list",
}  # fmt: skip
"""By a host's action, the operation of a certificate that it needs."""

SIGNED_BODY = "starfish_http.signed_body"
"""Where a host leaves the `SignedBody` of a request in its ASGI scope."""


@dataclass(frozen=True, slots=True)
class SignedBody:
    """The body that a signature is compared with, left in the scope by a host that reads it itself."""

    read: Callable[[], Awaitable[bytes]]
    """Reads the whole body, bounded, exactly as it was sent; the same bytes each time."""
    is_opaque: bool = False
    """Whether it is bytes rather than JSON: existing clients sign such a request as if it had none."""


class Revocations(Protocol):
    """Which certificates were taken back."""

    def is_revoked(self, iss: str, cap_sub: str, cap_nonce: str) -> bool | Awaitable[bool]:
        """Whether a certificate was taken back, by itself or with everything of its subject.

        Args:
            iss: the issuer's key.
            cap_sub: the subject's key; empty for an audience certificate.
            cap_nonce: the certificate's nonce.
        """
        ...


@dataclass(frozen=True)
class CapabilityCaller(Caller):
    """A caller with a certificate: its identity, its roles, and the bounds of its rights."""

    issuer: str = field(default="", kw_only=True)
    """User id of the issuer."""
    kind: Literal["device", "member", "audience"] = field(default="device", kw_only=True)
    ops: Collection[str] = field(default=(), kw_only=True)
    """Some of ``read``, ``write``, ``list``."""
    collections: Collection[str] = field(default=(), kw_only=True)
    """Names of collections; ``*`` stands for each one."""
    is_trusted: bool = field(default=False, kw_only=True)
    """Whether the host names the issuer as one that it trusts; anybody else may have made the key."""

    @override
    def allows(self, action: str, key: str) -> bool:
        """Whether the certificate's paths reach a document; one that names none reaches what its kind does."""
        if not self.scope_paths and self.kind != "device":
            return False
        return super().allows(action, key)

    @override
    def allows_collection(self, action: str, collection: str) -> bool:
        """Whether the certificate has the operation and, for a device, the collection.

        For members and audiences the name of a collection is a label that only their roles hold.
        """
        if _OPERATIONS.get(action) not in self.ops:
            return False
        return self.kind != "device" or "*" in self.collections or collection in self.collections


class CapabilityAuthenticator(Authenticator):
    """Knows callers by capability certificates and signed requests.

    A request without a certificate is anonymous with the role ``public``. A refusal is 401
    and nothing more, 403 for a presenter who is not on the certificate's list, 413 for a body
    without a length.

    Args:
        nonces: where used nonces are kept.
        revocations: which certificates were taken back.
        public_hosts: the hosts by which clients know this service, such as ``sync.example``; none
            lets requests to loopback through, and no others.
        trusted_issuers: user ids whose certificates give the roles ``cap:…`` and ``device:root``;
            ``None`` gives them to everybody who makes a key.
        allow_anonymous: whether a request without a certificate is let in.
        max_lifetime_s: longest validity of a certificate, in seconds.
        max_header: longest value of ``Authorization``, in characters.
        validators: by kind, the rules beyond the shape; a kind without any is refused. ``None`` for
            the rules of the protocol, for all three kinds.
        knows: tells whether this host keeps data of a user; strangers have a share of the nonces.
        clock: the host's.

    Raises:
        ValueError: a public host is not one.

    Examples:
        >>> from starfish_http.callers.nonces import MemoryNonces
        >>> class Nothing:
        ...     def is_revoked(self, iss, cap_sub, cap_nonce):
        ...         return False
        >>> authenticate = CapabilityAuthenticator(
        ...     nonces=MemoryNonces(), revocations=Nothing(), public_hosts=["sync.example"]
        ... )
    """

    def __init__(
        self,
        *,
        nonces: NonceStore,
        revocations: Revocations,
        public_hosts: Sequence[str] = (),
        trusted_issuers: Collection[str] | None = None,
        allow_anonymous: bool = True,
        max_lifetime_s: int | None = None,
        max_header: int = 8192,
        validators: Mapping[str, Sequence[CapCertValidator]] | None = None,
        knows: Callable[[str], Awaitable[bool]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._nonces = nonces
        self._revocations = revocations
        self._hosts = PublicHosts(public_hosts)
        self._trusted = None if trusted_issuers is None else frozenset(trusted_issuers)
        self._allow_anonymous = allow_anonymous
        self._certificates = VerifiedCertificates(
            validators, max_header=max_header, max_lifetime_s=max_lifetime_s
        )
        self._knows = knows
        self._clock = clock or SystemClock()
        self._logged: dict[str, int] = {}

    @override
    async def __call__(self, request: Request) -> Caller:
        """The caller of a request.

        Raises:
            AuthError: 401, the certificate or the signature is not good; 403, the presenter is not on the list;
            RequestRefusedError: 413, the body has no length.
        """
        lines: list[tuple[bytes, bytes]] = request.scope["headers"]
        given = [value.decode("latin-1") for name, value in lines if name == b"authorization"]
        if not any(map(is_cap_header, given)):
            if self._allow_anonymous:
                return Caller(None, ["public"])
            raise AuthError
        if len(given) > 1:
            raise self._refused("there are several Authorization headers")
        try:
            return await self._signed(request, given[0])
        except CertificateRefusedError as error:
            raise self._refused(str(error)) from error

    async def _signed(self, request: Request, header: str) -> Caller:
        now_ms = self._clock.now_ms()
        # One pass instead of one a header; of several lines the first counts.
        headers: dict[bytes, bytes] = dict(reversed(request.scope["headers"]))
        signature = _signature_of(headers, now_ms)
        certificate = self._certificates.read(header, now_ms // 1000)
        body = _body_of(request.scope, headers)
        presenter = _presenter(headers, certificate)
        hosts = self._hosts.candidates(_text(headers, b"host"))
        await self._verify(request.scope, body, signature, presenter, hosts=hosts)
        if certificate.audience is not None and presenter not in certificate.audience:
            raise AuthError("forbidden", status=403)
        if await self._is_revoked(certificate):
            raise CertificateRefusedError("the certificate is revoked")
        return self._caller(certificate, presenter, signature)

    async def _verify(
        self,
        scope: Scope,
        body: SignedBody | None,
        signature: RequestSignature,
        presenter: str,
        *,
        hosts: Sequence[str],
    ) -> None:
        target = _target(scope.get("raw_path"), scope["path"], scope["query_string"])
        method: str = scope["method"]

        def is_signed(content: bytes) -> bool:
            return any(
                verify_request_signature(method, target, content, signature, presenter, host=host)
                for host in hosts
            )

        if (body is None or body.is_opaque) and is_signed(b""):
            return
        if body is not None:
            content = await body.read()
            if (content or not body.is_opaque) and is_signed(content):
                return
        raise CertificateRefusedError("the signature of the request is not good")

    def _caller(
        self, certificate: Certificate, presenter: str, signature: RequestSignature
    ) -> Caller:
        kind = cast('Literal["device", "member", "audience"]', certificate.kind)
        identity = {
            "device": certificate.issuer_id,
            "member": certificate.subject_id,
        }.get(kind) or user_id_from_pub_hex(presenter)

        async def holds() -> bool:
            return not await self._is_revoked(certificate)

        async def admit() -> None:
            await self._use_up(certificate, presenter, signature)

        return CapabilityCaller(
            identity,
            self._roles(certificate),
            key=presenter,
            scope_paths=[path.replace("{identity}", identity) for path in certificate.paths],
            expires_ms=(certificate.expires + CLOCK_SKEW_S + 1) * 1000,
            recheck=holds,
            admit=admit,
            issuer=certificate.issuer_id,
            kind=kind,
            ops=certificate.ops,
            collections=certificate.collections,
            is_trusted=self._trusted is not None and certificate.issuer_id in self._trusted,
        )

    def _roles(self, certificate: Certificate) -> list[str]:
        roles: list[str] = []
        issuer = certificate.issuer_id
        if self._trusted is None or issuer in self._trusted:
            roles = [
                f"cap:{op}:{name}"
                for op in sorted(certificate.ops)
                for name in certificate.collections
            ]
            if certificate.is_root:
                roles.append("device:root")
        if certificate.kind != "device":
            roles += [f"delegated:{issuer}:{name}" for name in certificate.collections]
        return roles

    async def _use_up(
        self, certificate: Certificate, presenter: str, signature: RequestSignature
    ) -> None:
        issuer = certificate.issuer_id
        is_known = (
            self._knows is None
            or (self._trusted is not None and issuer in self._trusted)
            or await self._knows(issuer)
        )
        now_ms = self._clock.now_ms()
        verdict = await self._nonces.take(
            presenter, signature.nonce, now_ms, signed_ms=signature.ts, is_known=is_known
        )
        if verdict == "used":
            raise self._refused("the nonce was used before")
        if verdict == "full":
            self._log("there is no room for more nonces")
            raise RequestRefusedError(
                503,
                "too_many_signed_requests",
                "too many signed requests within ten minutes; try again later",
                headers={"retry-after": "60"},
            )

    async def _is_revoked(self, certificate: Certificate) -> bool:
        answer = self._revocations.is_revoked(
            certificate.issuer, certificate.subject, certificate.nonce
        )
        return answer if isinstance(answer, bool) else await answer

    def _refused(self, reason: str) -> AuthError:
        self._log(reason)
        return AuthError()

    def _log(self, reason: str) -> None:
        """Once a reason and a minute: refusals must not fill a disk."""
        now_ms = self._clock.now_ms()
        last = self._logged.get(reason)
        if last is None or not 0 <= now_ms - last < _REASON_EVERY_MS:
            if len(self._logged) >= _MOST_REASONS:
                self._logged.clear()
            self._logged[reason] = now_ms
            _LOG.info("a signed request is refused: %s", reason)


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _signature_of(headers: Mapping[bytes, bytes], now_ms: int) -> RequestSignature:
    sig, ts = _text(headers, b"x-starfish-sig"), _text(headers, b"x-starfish-ts")
    nonce = _text(headers, b"x-starfish-nonce")
    if not (sig and ts and nonce):
        raise CertificateRefusedError("a header of the signature is missing")
    if _TS.fullmatch(ts) is None or not ts.isascii():
        raise CertificateRefusedError("the time of the request is not a number")
    if abs(int(ts) - now_ms) > DEFAULT_MAX_SKEW_MS:
        raise CertificateRefusedError("the time of the request is not now")
    if _NONCE.fullmatch(nonce) is None:
        raise CertificateRefusedError("the nonce is not base64 of 16 bytes")
    return RequestSignature(sig, int(ts), nonce)


def _presenter(headers: Mapping[bytes, bytes], certificate: Certificate) -> str:
    if certificate.kind != "audience":
        return certificate.subject
    key = _text(headers, b"x-starfish-pub")
    if _KEY.fullmatch(key) is None:
        raise CertificateRefusedError("the presenter's key is missing or malformed")
    return key


def _body_of(scope: Scope, headers: Mapping[bytes, bytes]) -> SignedBody | None:
    """The body that must be signed; ``None`` for a request without one.

    Raises:
        RequestRefusedError: 413 where nobody can tell how long it is.
        CertificateRefusedError: the host does not let its body be read.
    """
    if scope["method"] in _BODILESS:
        return None
    length = headers.get(b"content-length")
    if length is None and b"transfer-encoding" in headers:
        raise _without_length("missing Content-Length on write")
    if length is not None and not length.isdigit():
        raise _without_length("invalid Content-Length")
    body = cast("SignedBody | None", scope.get(SIGNED_BODY))
    if body is None and length is not None and int(length[:20]) > 0:
        raise CertificateRefusedError("this service takes no signed request with a body")
    return body


def _without_length(text: str) -> AuthError:
    return AuthError(text, status=413)


def _target(raw_path: bytes | None, path: str, query: bytes) -> str:
    """Path and query as they were sent."""
    raw = path.encode() if raw_path is None else raw_path.partition(b"?")[0]
    return (raw + b"?" + query if query else raw).decode("latin-1")


def is_capability_request(scope: Scope) -> bool:
    """Whether a request shows a certificate."""
    return any(
        name == b"authorization" and value.startswith(b"Cap ") for name, value in scope["headers"]
    )


def check_public_hosts(hosts: Sequence[str]) -> None:
    """Return if these can be the hosts by which clients know a service.

    Raises:
        ValueError: there are too many, or one is not a host; the message names it.

    Examples:
        >>> check_public_hosts(["sync.example", "sync.example:8443"])
    """
    PublicHosts(hosts)

"""Signed requests: each request of a client proves who sends it, to which host, and when."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Literal, TypedDict

from starfish_protocol._signed_text import sign_text, signed_text, verify_text
from starfish_protocol.clock import SystemClock

__all__ = (
    "DEFAULT_MAX_SKEW_MS",
    "RequestSignature",
    "SignableMethod",
    "SignableRequest",
    "is_within_clock_skew",
    "request_signing_canonical_input",
    "sign_request",
    "verify_request_signature",
)

DEFAULT_MAX_SKEW_MS = 300_000
"""Milliseconds by which the clocks of client and server may differ."""

SignableMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
"""The method of a request, in capitals."""

_DOMAIN = "starfish-req-v1\n"


class SignableRequest(TypedDict):
    """The parts of a request that its signature covers."""

    method: SignableMethod
    """In capitals."""
    path_and_query: str
    """Exactly as sent."""
    body: bytes
    """Exactly as sent; empty for a request without one."""
    host: str | None
    """Lowercase, without the default port; ``None`` where the client has no absolute address."""


@dataclass(frozen=True, slots=True)
class RequestSignature:
    """The three values that travel beside a request."""

    sig: str
    """Ed25519 signature, base64 with padding."""
    ts: int
    """The client's clock, milliseconds since the epoch."""
    nonce: str
    """base64 of 16 random bytes; a server takes each once."""


def request_signing_canonical_input(
    method: str,
    path_and_query: str,
    body: bytes,
    ts: int,
    nonce_b64: str,
    *,
    host: str | None = None,
) -> str:
    r"""Give the text that is signed, as UTF-8.

    Args:
        method: in capitals.
        path_and_query: exactly as sent.
        body: exactly as sent.
        ts: milliseconds since the epoch.
        nonce_b64: base64 of 16 random bytes.
        host: lowercase, without the default port; ``None`` is the empty text.

    Raises:
        TypeError: a value is of another type.

    Examples:
        >>> request_signing_canonical_input("GET", "/pull/a", b"", 1, "AA==", host="h")[:32]
        'starfish-req-v1\n{"b":"e3b0c44298'
    """
    return signed_text(
        _DOMAIN, _signed_object(method, path_and_query, body, ts, nonce_b64, host=host)
    )


def sign_request(
    method: str,
    path_and_query: str,
    body: bytes,
    dev_priv_hex: str,
    *,
    host: str | None = None,
    ts: int | None = None,
    nonce: bytes | None = None,
) -> RequestSignature:
    """Sign a request.

    Args:
        method: in capitals.
        path_and_query: exactly as sent.
        body: exactly as sent.
        dev_priv_hex: the sender's private key, 64 hex digits.
        host: lowercase, without the default port; ``None`` is the empty text.
        ts: milliseconds since the epoch; the system's clock when left out.
        nonce: 16 bytes; random when left out.

    Raises:
        TypeError: a value is of another type.
        ValueError: the key is malformed; it is never shown.

    Examples:
        >>> key = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
        >>> signed = sign_request("GET", "/pull/notes/a", b"", key, host="api.example")
        >>> verify_request_signature(
        ...     "GET", "/pull/notes/a", b"", signed,
        ...     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        ...     host="api.example",
        ... )
        True
    """
    ts = SystemClock().now_ms() if ts is None else ts
    nonce_b64 = base64.b64encode(secrets.token_bytes(16) if nonce is None else nonce).decode()
    signed = _signed_object(method, path_and_query, body, ts, nonce_b64, host=host)
    return RequestSignature(sign_text(_DOMAIN, signed, dev_priv_hex), ts, nonce_b64)


def verify_request_signature(
    method: str,
    path_and_query: str,
    body: bytes,
    signature: RequestSignature,
    signer_pub_hex: str,
    *,
    host: str | None = None,
) -> bool:
    """Tell whether the holder of a key signed this request; never an exception.

    Neither the clock nor the nonce is judged: see `is_within_clock_skew`, and remember the nonce.
    """
    try:
        signed = _signed_object(
            method, path_and_query, body, signature.ts, signature.nonce, host=host
        )
    except (AttributeError, TypeError, ValueError):
        return False
    return verify_text(_DOMAIN, signed, signer_pub_hex, signature.sig)


def is_within_clock_skew(req_ts: int, now_ms: int, max_skew_ms: int = DEFAULT_MAX_SKEW_MS) -> bool:
    """Tell whether a request is of now, both ends included.

    Args:
        req_ts: the request's time, milliseconds since the epoch.
        now_ms: the server's clock, milliseconds since the epoch.
        max_skew_ms: milliseconds by which they may differ.

    Examples:
        >>> is_within_clock_skew(0, 300_000), is_within_clock_skew(0, 300_001)
        (True, False)
    """
    return abs(req_ts - now_ms) <= max_skew_ms


def _signed_object(
    method: str, path_and_query: str, body: bytes, ts: int, nonce_b64: str, *, host: str | None
) -> dict[str, str | int]:
    return {
        "m": method,
        "p": path_and_query,
        "b": hashlib.sha256(body).hexdigest(),
        "h": "" if host is None else host,
        "ts": ts,
        "nonce": nonce_b64,
    }

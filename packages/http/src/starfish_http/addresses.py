"""The address that a caller is counted by."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.types import Scope

__all__ = ("client_address", "client_address_of")


def client_address(
    peer: str | None, forwarded_for: Iterable[str] = (), *, trusted_proxy_hops: int = 0
) -> str:
    """The address that a request is counted by.

    Args:
        peer: the other end of the connection; ``None`` over a local socket.
        forwarded_for: the ``X-Forwarded-For`` headers, in order.
        trusted_proxy_hops: how many proxies of one's own a request passes. Each appends the address it
            got the request from, so the caller stands so many places from the right; all to the left
            of that, the caller may have made up. With 0 the header is ignored.

    Returns:
        An IPv4 address, or the first 64 bits of an IPv6 address, since one household has them
        all; the peer when the header is shorter than the hops or holds another text there.

    Examples:
        >>> client_address("10.0.0.1", ["6.6.6.6, 203.0.113.9"], trusted_proxy_hops=1)
        '203.0.113.9'
        >>> client_address("2001:db8::1:2")
        '2001:db8::/64'
    """
    if trusted_proxy_hops > 0:
        hops = [hop for header in forwarded_for for hop in header.split(",")]
        if len(hops) >= trusted_proxy_hops:
            found = _network(_without_port(hops[-trusted_proxy_hops].strip()))
            if found is not None:
                return found
    return "unknown" if peer is None else _network(peer) or peer


def client_address_of(scope: Scope, *, trusted_proxy_hops: int = 0) -> str:
    """The address that an ASGI request is counted by; see `client_address`."""
    client = scope.get("client")
    forwarded: list[str] = []
    if trusted_proxy_hops > 0:
        forwarded = [
            value.decode("latin-1")
            for name, value in scope["headers"]
            if name == b"x-forwarded-for"
        ]
    peer = None if client is None else client[0]
    return client_address(peer, forwarded, trusted_proxy_hops=trusted_proxy_hops)


def _network(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


def _without_port(hop: str) -> str:
    """Some proxies append ``:port``, and brackets around IPv6."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop

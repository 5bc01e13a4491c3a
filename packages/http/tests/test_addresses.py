from __future__ import annotations

import pytest

from starfish_http.addresses import client_address, client_address_of


@pytest.mark.parametrize(
    ("peer", "forwarded", "hops", "address"),
    [
        ("10.0.0.1", ["6.6.6.6"], 0, "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9"], 1, "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.9"], 2, "6.6.6.6"),
        ("10.0.0.1", ["203.0.113.9"], 2, "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], 1, "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:5"], 1, "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:5"], 1, "2001:db8::/64"),
        ("::ffff:10.0.0.1", [], 0, "10.0.0.1"),
        (None, [], 0, "unknown"),
        ("pipe", [], 0, "pipe"),
    ],
)
def test_client_address(peer: str | None, forwarded: list[str], hops: int, address: str) -> None:
    assert client_address(peer, forwarded, trusted_proxy_hops=hops) == address


def test_the_address_of_a_request() -> None:
    scope = {"client": ("10.0.0.1", 5), "headers": [(b"x-forwarded-for", b"203.0.113.9")]}

    assert client_address_of(scope) == "10.0.0.1"
    assert client_address_of(scope, trusted_proxy_hops=1) == "203.0.113.9"
    assert client_address_of({"client": None, "headers": []}) == "unknown"

"""The hosts that a request may have been signed for.

A client signs the host of the address it uses; the request does not carry it in a way that can be
believed, since the sender of the request writes the ``Host`` line.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

__all__ = ("PublicHosts", "normal_host")

_MOST = 8
_HOST = re.compile(
    r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?)(?::(?P<port>[0-9]{1,5}))?"
)
_DEFAULT_PORTS = {"80", "443"}


def normal_host(text: str) -> str:
    """A host as it is signed: lower case, without the default port; empty when it is not a host.

    Examples:
        >>> normal_host("Sync.Example:443"), normal_host("[::1]:8000"), normal_host("a b")
        ('sync.example', '[::1]:8000', '')
    """
    found = _HOST.fullmatch(text.strip().lower())
    if found is None:
        return ""
    name, port = found["name"], found["port"]
    return name if port is None or port in _DEFAULT_PORTS else f"{name}:{port}"


class PublicHosts:
    """The hosts by which clients know a service.

    Args:
        hosts: at most 8, such as ``sync.example`` or ``sync.example:8443``; none lets the names of
            loopback alone through.

    Raises:
        ValueError: there are too many, or one is not a host.
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        if len(hosts) > _MOST:
            raise ValueError(
                f"{len(hosts)} public hosts are refused; there must be at most {_MOST}"
            )
        for host in hosts:
            if not normal_host(host):
                raise ValueError(f"public host {host!r} is refused; it must be host or host:port")
        self._hosts = tuple(dict.fromkeys(map(normal_host, hosts)))

    def candidates(self, host_line: str) -> Sequence[str]:
        """The hosts to verify a signature with, for a request with this ``Host`` line."""
        host = normal_host(host_line)
        if not self._hosts:
            return (host,) if _is_loopback(host) else ()
        return (host,) if host in self._hosts else self._hosts


def _is_loopback(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

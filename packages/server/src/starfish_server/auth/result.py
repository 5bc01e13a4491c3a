"""Who a request comes from, as a role resolver answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import Request

__all__ = ("AuthResult", "Presenter", "RoleResolver")


@dataclass(frozen=True, slots=True)
class Presenter:
    """The key that authenticated a request."""

    pub_hex: str
    """Ed25519 public key, 64 lowercase hex digits: what an author's signature must be made by."""


@dataclass(frozen=True, slots=True)
class AuthResult:
    """A caller and what it may be.

    Examples:
        >>> AuthResult(identity=None).roles      # anonymous: only ``public`` collections
        []
    """

    identity: str | None
    """The caller, ``None`` when anonymous."""
    roles: list[str] = field(default_factory=list[str])
    """The caller's roles, taken as given; ``self`` and ``public`` need not be among them."""
    presenter: Presenter | None = None
    """The key behind the authentication, where there is one."""


RoleResolver = Callable[[Request], Awaitable[AuthResult]]
"""Answers who sent a request, or raises: see `starfish_server.auth.errors.AuthError`."""

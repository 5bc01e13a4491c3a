"""Who a request comes from, as a role resolver answers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request

from starfish_http.callers import Caller

__all__ = ("AuthResult", "Presenter", "RoleResolver")


@dataclass(frozen=True, slots=True)
class Presenter:
    """The key that authenticated a request."""

    pub_hex: str
    """Ed25519 public key, 64 lowercase hex digits: what an author's signature must be made by."""


@dataclass(frozen=True)
class AuthResult(Caller):
    """A caller, its roles, and the documents that its credential reaches.

    ``scope_paths`` bounds a credential to some documents: globs over a document's path, asked for
    every path that a request reaches. Override ``allows`` to decide otherwise.

    Examples:
        >>> AuthResult(identity=None).roles  # anonymous: only ``public`` collections
        []
        >>> guest = AuthResult("guest", ["member"], scope_paths=["notes/a/*", "!notes/a/private"])
        >>> guest.allows("pull", "notes/a/1"), guest.allows("pull", "notes/a/private")
        (True, False)
    """

    presenter: Presenter | None = None
    """The key behind the authentication, where there is one; the same as ``key``."""

    def __post_init__(self) -> None:
        if self.presenter is not None and self.key is None:
            object.__setattr__(self, "key", self.presenter.pub_hex)


RoleResolver = Callable[[Request], Awaitable[Caller]]
"""Answers who sent a request with an `AuthResult`, or raises: see `starfish_server.auth.AuthError`."""

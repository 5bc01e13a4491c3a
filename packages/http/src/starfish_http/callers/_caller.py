"""A caller, and the one contract by which an application learns of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from typing_extensions import override

from starfish_http.callers._scope import scope_reaches

__all__ = ("Authenticate", "Authenticator", "Caller", "anyone")


@dataclass(frozen=True)
class Caller:
    """Who sent a request, and what the credential behind it is good for.

    Subclass it to say more about a caller, or to decide otherwise in `allows`.

    Examples:
        >>> Caller("ada", ["editor"], scope_paths=["notes/**"]).allows("pull", "albums/1")
        False
    """

    identity: str | None = None
    """The name; ``None`` when anonymous."""
    roles: Sequence[str] = field(default_factory=list[str])
    """Taken as given."""
    key: str | None = field(default=None, kw_only=True)
    """Ed25519 public key that the caller signs with, 64 lowercase hex digits."""
    scope_paths: Sequence[str] | None = field(default=None, kw_only=True)
    """Globs over document keys: ``*`` within a segment, ``**`` across, ``!…`` denies a path and
    everything below it. ``None`` reaches every key."""
    namespaces: Sequence[str] | None = field(default=None, kw_only=True)
    """The namespaces that the credential is good for; ``None`` for every one, and for none."""
    expires_ms: int | None = field(default=None, kw_only=True)
    """Milliseconds since the epoch from which the credential is refused; ``None`` for never."""
    recheck: Callable[[], Awaitable[bool]] | None = field(
        default=None, kw_only=True, repr=False, compare=False
    )
    """Asked by `is_current`: whether the credential still holds."""
    admit: Callable[[], Awaitable[None]] | None = field(
        default=None, kw_only=True, repr=False, compare=False
    )
    """Awaited once by a host that found the caller's rights sufficient, before it acts: a credential
    that is good for one request is used up there. Raises `AuthError` when it was used before."""

    def allows(self, action: str, key: str) -> bool:  # noqa: ARG002 - a subclass may look at it
        """Whether the credential reaches a document: asked for every key that a request touches.

        Args:
            action: the wish, such as ``pull`` or ``push``.
            key: the document's key.
        """
        return scope_reaches(self.scope_paths, key)

    def allows_collection(self, action: str, collection: str) -> bool:  # noqa: ARG002 - a subclass may look at it
        """Whether the credential covers an action on a collection, whatever the document.

        Args:
            action: the wish, such as ``pull`` or ``push``.
            collection: the collection's name.
        """
        return True

    def allows_namespace(self, namespace: str | None) -> bool:
        """Whether the credential is good in a namespace; ``None`` is the part without one."""
        return self.namespaces is None or namespace in self.namespaces

    async def is_current(self) -> bool:
        """Whether the credential holds at this moment: asked again before each part of a stream."""
        return self.recheck is None or await self.recheck()

    @classmethod
    def of(cls, result: Any) -> Caller:
        """The caller that a function answered.

        Takes a `Caller`, a name, ``None`` for an anonymous caller, or any object with ``identity``
        and ``roles`` (and ``scope_paths``, ``presenter`` where it has them).

        Raises:
            TypeError: it is none of these.
        """
        if isinstance(result, Caller):
            return result
        if result is None or isinstance(result, str):
            return cls(result)
        identity = getattr(result, "identity", _MISSING)
        if identity is _MISSING or not hasattr(result, "roles"):
            raise TypeError(
                f"an authenticator answered {type(result).__name__}; "
                "it must be a Caller, a name, None, or an object with identity and roles"
            )
        return _Described.describe(result)


_MISSING: Final = object()


@dataclass(frozen=True)
class _Described(Caller):
    """A caller described by an object of another package, which decides where it can."""

    origin: Any = field(default=None, kw_only=True, repr=False, compare=False)

    @classmethod
    def describe(cls, origin: Any) -> Caller:
        presenter = getattr(origin, "presenter", None)
        return cls(
            origin.identity,
            list(origin.roles),
            key=getattr(presenter, "pub_hex", None),
            scope_paths=getattr(origin, "scope_paths", None),
            origin=origin,
        )

    @override
    def allows(self, action: str, key: str) -> bool:
        own = getattr(self.origin, "allows", None)
        return super().allows(action, key) and (own is None or bool(own(action, key)))


class Authenticator(ABC):
    """Answers who sent a request: what every HTTP face takes as ``authenticate``.

    An instance is an `Authenticate`; being of this class is how it is told from a function of a
    token or of a name (`as_authenticator`).
    """

    @abstractmethod
    async def __call__(self, request: Request) -> Caller:
        """The caller of a request.

        Raises:
            AuthError: its credentials are refused.
        """

    async def is_current(self, request: Request, caller: Caller) -> bool:  # noqa: ARG002 - others ask it again
        """Whether the credential behind a request that is still being answered holds."""
        return await caller.is_current()


Authenticate = Callable[[Request], Awaitable[Caller]]
"""Answers who sent a request, or raises `AuthError`."""


class _Anyone(Authenticator):
    @override
    async def __call__(self, request: Request) -> Caller:
        return Caller()

    def __repr__(self) -> str:
        return "anyone"


anyone: Final[Authenticator] = _Anyone()
"""Lets everybody in, as an anonymous caller: to be written out where that is meant."""

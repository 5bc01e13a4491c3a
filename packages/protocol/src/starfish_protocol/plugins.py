"""The contract between a server host and its extensions.

Rule 1: no type of a web framework appears here. Rule 2: fields may be added with a default,
never removed or reordered: extensions construct and read these across versions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = (
    "AfterWriteHook",
    "AuthorizeContext",
    "AuthorizeHook",
    "AuthorizeResult",
    "BeforePullHook",
    "CapCertValidator",
    "InterceptPullHook",
    "InterceptPullResult",
    "InterceptPushHook",
    "LifecycleHook",
    "PullHookContext",
    "PullHookResult",
    "PushHookContext",
    "PushHookResult",
    "ReadStoredHook",
    "ServerPlugin",
    "WriteEvent",
)


@dataclass(frozen=True, slots=True)
class WriteEvent:
    """One push that was stored, or the removal of a document."""

    collection: str
    """Name of the collection that was written."""
    hash: str
    """Hash of the stored document, as the client got it."""
    timestamp: int
    """Time of the write, milliseconds since the epoch."""
    params: Mapping[str, str]
    """The path parameters of the document."""
    body: Mapping[str, Any] | None = None
    """The pushed ``data`` of a JSON collection; ``None`` for binary ones."""
    namespace: str | None = None
    """The namespace the write went through, if any."""
    identity: str | None = None
    """Who wrote, ``None`` for an anonymous write; personal data, so forward it only on purpose."""
    document_key: str | None = None
    """Where the document is stored: the push path without ``/push/``."""
    sequence: int | None = None
    """Position in the change log; ``None`` where the store keeps none."""
    is_deleted: bool = False
    """Whether the document was removed; ``hash`` is then empty and ``body`` is ``None``."""


@dataclass(frozen=True, slots=True)
class PullHookContext:
    """A pull that is about to be served."""

    collection: str
    params: Mapping[str, str]
    namespace: str | None = None
    document_key: str | None = field(default=None, compare=False)
    """Within the namespace; ``None`` for a pull of several documents at once."""
    query: Mapping[str, str] | None = field(default=None, compare=False)
    """Of the request's address; ``None`` for a pull of several documents at once."""


@dataclass(frozen=True, slots=True)
class PushHookContext:
    """A push that is about to be stored."""

    collection: str
    params: Mapping[str, str]
    raw_body: str
    """The request's body as text, already within the collection's size limit; empty for a removal."""
    namespace: str | None = None
    is_delete: bool = False
    """Whether the document is to be removed; a hook that rejects pushes is asked about this too."""


@dataclass(frozen=True, slots=True)
class AuthorizeContext:
    """An action whose roles were found sufficient."""

    action: Literal["pull", "push", "list"]
    collection: str
    params: Mapping[str, str]
    identity: str | None = None
    """The caller, ``None`` when anonymous."""
    namespace: str | None = None
    roles: tuple[str, ...] = ()
    """The caller's roles after enrichment."""


@dataclass(frozen=True, slots=True)
class PullHookResult:
    """Whether a pull goes on."""

    action: Literal["proceed", "reject"]
    status: int | None = None
    """HTTP status of a rejection."""
    error: str | None = None
    """Its ``error`` text."""


@dataclass(frozen=True, slots=True)
class PushHookResult:
    """Whether a push goes on, is refused, or was answered elsewhere."""

    action: Literal["proceed", "reject", "respond"]
    status: int | None = None
    error: str | None = None
    body: Any | None = None
    """JSON body of a ``respond``."""


@dataclass(frozen=True, slots=True)
class InterceptPullResult:
    """Whether a pull goes on or is answered with the hook's own bytes."""

    action: Literal["proceed", "respond"]
    status: int | None = None
    body: bytes | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class AuthorizeResult:
    """Whether an action is allowed."""

    action: Literal["proceed", "reject"]
    status: int | None = None
    error: str | None = None


CapCertValidator = Callable[[Any], None]
"""Judges a certificate of one kind beyond its shape; any exception refuses it."""
AfterWriteHook = Callable[[WriteEvent], Awaitable[None] | None]
"""Runs after a push was stored. Its exceptions are logged and never reach the client."""
BeforePullHook = Callable[[PullHookContext], PullHookResult | Awaitable[PullHookResult]]
"""Runs before the store is read; the first ``reject`` wins."""
InterceptPushHook = Callable[[PushHookContext], PushHookResult | Awaitable[PushHookResult]]
"""Runs before a push is stored; the first result that is not ``proceed`` wins."""
InterceptPullHook = Callable[
    [PullHookContext], InterceptPullResult | Awaitable[InterceptPullResult]
]
"""Runs after access was checked and before the store is read; the first ``respond`` wins."""
AuthorizeHook = Callable[[AuthorizeContext], AuthorizeResult | Awaitable[AuthorizeResult]]
"""Runs for every action whose roles suffice, members of batches and bundles included."""
ReadStoredHook = Callable[[str, bytes], bytes | Awaitable[bytes]]
"""Takes a storage key and the stored form of a document, and gives the one that readers see.

For a plugin that keeps documents in pieces. Any other document comes back as it is."""
LifecycleHook = Callable[[], Awaitable[None] | None]
"""Runs once, when the server starts or stops."""


@dataclass(frozen=True, slots=True)
class ServerPlugin:
    """Hooks that an extension adds to a server; each may be sync or async.

    Hooks of several plugins run in list order. ``after_write`` only observes; the others gate
    the request, so their exceptions fail it. Pass hooks by keyword.

    Examples:
        >>> seen = []
        >>> ServerPlugin("audit", after_write=lambda event: seen.append(event.hash)).name
        'audit'
    """

    name: str
    """Shown in errors and logs."""
    cap_validators: Mapping[str, CapCertValidator] = field(
        default_factory=dict[str, CapCertValidator]
    )
    """For each kind of capability certificate that this extension lets in, its validator."""
    after_write: AfterWriteHook | None = None
    before_pull: BeforePullHook | None = None
    intercept_push: InterceptPushHook | None = None
    intercept_pull: InterceptPullHook | None = None
    authorize: AuthorizeHook | None = None
    shutdown: LifecycleHook | None = None
    startup: LifecycleHook | None = None
    read_stored: ReadStoredHook | None = None

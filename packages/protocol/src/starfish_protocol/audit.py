"""The record of an action, and the contract of a logger that keeps such records."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ("AuditEntry", "AuditLogger")


@dataclass(slots=True)
class AuditEntry:
    """One action on one document."""

    timestamp: float
    """When, milliseconds since the epoch."""
    action: str
    """``pull``, ``push``, ``list`` or another name of the host's."""
    collection: str
    """Name of the collection."""
    identity: str | None
    """The caller, ``None`` or empty when anonymous."""
    document_key: str
    """The document."""
    success: bool
    """Whether it was done."""
    status_code: int
    """The HTTP status of the answer."""
    params: dict[str, str] = field(default_factory=dict[str, str])
    """The path parameters."""


class AuditLogger:
    """Keeps audit entries; subclasses say where."""

    async def record(self, entry: AuditEntry) -> None:
        """Keep one entry.

        Raises:
            NotImplementedError: this base class keeps nothing.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__} must say where {entry.action} is kept"
        )

"""Whether the condition of a write holds."""

from __future__ import annotations

from starfish_server.storage.errors import PreconditionFailedError
from starfish_server.storage.values import ANY, Match, Metadata, Precondition

__all__ = ("check_condition",)


def check_condition(key: str, when: Precondition, current: Metadata | None) -> None:
    """Compare a condition with the version that a key holds.

    Raises:
        PreconditionFailedError: the condition does not hold.
    """
    if isinstance(when, Match):
        holds = current is not None and current.etag == when.etag
    else:
        holds = when is ANY or current is None
    if not holds:
        raise PreconditionFailedError(key, current)

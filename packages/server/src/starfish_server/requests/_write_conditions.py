"""``If-Match`` and ``If-None-Match`` of a write, as a check of the version that it replaces."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Scope

from starfish_http.entity_tags import etag_of, write_conditions

__all__ = ("write_condition",)


def write_condition(scope: Scope) -> Callable[[str], None] | None:
    """What a request demands of the version that its write replaces.

    Returns:
        A function of the hash of the current version, the empty string where there is none; it
        raises 412 where the write must not happen. ``None`` for an unconditional write.

    Raises:
        RequestRefusedError: 400: a header is not a list of tags.
    """
    conditions = write_conditions(scope)
    if conditions is None:
        return None
    return lambda current: conditions.check(etag_of(current) if current else None)

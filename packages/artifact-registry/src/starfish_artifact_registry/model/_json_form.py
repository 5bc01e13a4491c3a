"""Values of the registry as JSON, the same over HTTP and on the command line.

Times are integer milliseconds since the epoch, ids and addresses their text, bytes lowercase hex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any, cast
from uuid import UUID

from starfish_artifact_registry.model._moment import to_ms
from starfish_protocol.address import ContentAddress

__all__ = ("json_form",)


def json_form(value: Any) -> Any:
    r"""What the JSON encoder takes.

    Raises:
        TypeError: there is no agreed form of such a value.

    Examples:
        >>> from datetime import UTC
        >>> json_form({"at": datetime(2026, 1, 1, tzinfo=UTC), "of": (UUID(int=1), b"\xff")})
        {'at': 1767225600000, 'of': ['00000000-0000-0000-0000-000000000001', 'ff']}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, UUID | ContentAddress | PurePath):
        return str(value)
    if isinstance(value, datetime):
        return to_ms(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: json_form(getattr(value, each.name)) for each in fields(value)}
    return _container_form(value)


def _container_form(value: Any) -> Any:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value)
        return {str(key): json_form(member) for key, member in pairs.items()}
    if isinstance(value, Sequence):
        members = cast("Sequence[object]", value)
        return [json_form(member) for member in members]
    if isinstance(value, AbstractSet):
        distinct = cast("AbstractSet[object]", value)
        return sorted(json_form(member) for member in distinct)
    raise TypeError(f"{type(value).__name__} has no JSON form here")

"""Where an event belongs: an entity and a scope."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starfish_watcher._limits import MAX_COORDINATE_BYTES

__all__ = ("Coordinate", "check_name", "in_namespace", "namespaces_of")

_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f/|=]|\.\.")


def check_name(what: str, name: object) -> None:
    """Return when ``name`` may be an entity or a scope.

    Raises:
        TypeError: it is not a string.
        ValueError: it breaks a rule; the message names the rule.
    """
    if not isinstance(name, str):
        msg = f"{what} must be a string, not {type(name).__name__}"
        raise TypeError(msg)
    try:
        size = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError:
        msg = f"{what} {name[:80]!r} is refused: a lone surrogate has no UTF-8 form"
        raise ValueError(msg) from None
    if not 1 <= size <= MAX_COORDINATE_BYTES:
        msg = (
            f"{what} {name[:80]!r} is refused: 1 to {MAX_COORDINATE_BYTES} UTF-8 bytes are allowed, "
            f"it has {size}"
        )
        raise ValueError(msg)
    if found := _REFUSED.search(name):
        msg = (
            f"{what} {name[:80]!r} is refused: it contains {found[0]!r}; control characters, "
            "'/', '..', '|' and '=' are not allowed"
        )
        raise ValueError(msg)


def namespaces_of(entity: str) -> list[str]:
    """The entity and every namespace that contains it, innermost first.

    Examples:
        >>> namespaces_of("alice:child:1")
        ['alice:child:1', 'alice:child', 'alice']
    """
    names = [entity]
    end = entity.rfind(":")
    while end >= 0:
        names.append(entity[:end])
        end = entity.rfind(":", 0, end)
    return names


def in_namespace(entity: str, prefix: str) -> bool:
    """Whether ``entity`` is ``prefix`` or lies below it.

    Examples:
        >>> in_namespace("alice:child", "alice"), in_namespace("alice2", "alice")
        (True, False)
    """
    return entity.startswith(prefix) and (len(entity) == len(prefix) or entity[len(prefix)] == ":")


@dataclass(frozen=True, slots=True, order=True)
class Coordinate:
    """An entity, whose events form one chain, and the scope in which an event of it happened.

    Each is 1 to 1,024 UTF-8 bytes without control characters, ``/``, ``..``, ``|`` and ``=``;
    ``:`` separates namespaces.

    Raises:
        ValueError: one of them breaks a rule; the message names it.

    Examples:
        >>> str(Coordinate("account:1", "eu"))
        'account:1@eu'
    """

    entity: str
    """What the event is about."""
    scope: str
    """Where it happened: a region, a tenant, a device."""

    def __post_init__(self) -> None:
        check_name("entity", self.entity)
        check_name("scope", self.scope)

    def __str__(self) -> str:
        return f"{self.entity}@{self.scope}"
